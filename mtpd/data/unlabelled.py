"""A data set of images without labels."""
import json
import os
from typing import Any

from mmdet.registry import DATASETS
from mmengine.dataset import BaseDataset

from .image_files import image_files


@DATASETS.register_module()
class UnlabelledImages(BaseDataset):
    """The images below ``data_prefix['img']``, or those of a COCO file.

    Labels are not read. An image's id is its path in the folder, or the one
    that the file gives it.

    Args:
        ann_file: A COCO file, of which ``images`` alone is read; empty for
            all image files below the folder.
        data_prefix: ``img`` is the folder.
        kwargs: As of mmengine's ``BaseDataset``.

    Raises:
        ValueError: The file has no list of ``images``, or one of them has no
            ``file_name``.
    """

    def __init__(self, ann_file: str = '',
                 data_prefix: dict[str, str] | None = None,
                 **kwargs: Any) -> None:
        super().__init__(ann_file=ann_file,
                         data_prefix=data_prefix or dict(img=''), **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        entries = self._listed() if self.ann_file else [
            dict(img_path=os.path.join(self.data_prefix['img'], name),
                 img_id=name, instances=[])
            for name in image_files(self.data_prefix['img'])]
        if not entries:
            self.serialize_data = False  # numpy cannot serialise nothing
        return entries

    def _listed(self) -> list[dict[str, Any]]:
        """The images of the file."""
        with open(self.ann_file) as file:
            content = json.load(file)
        images = content.get('images') if isinstance(content, dict) else None
        if not isinstance(images, list):
            raise ValueError('it has no list "images"')
        return [self._entry(image, self.data_prefix['img'])
                for image in images]

    @staticmethod
    def _entry(image: Any, folder: str) -> dict[str, Any]:
        name = image.get('file_name') if isinstance(image, dict) else None
        if not isinstance(name, str) or not name:
            raise ValueError(f'its image {image!r} has no "file_name"')
        entry = dict(img_path=os.path.join(folder, name),
                     img_id=image.get('id', name), instances=[])
        size = {side: image.get(side) for side in ('height', 'width')}
        # A wrong one is left out: it is that of the file then.
        if all(type(n) is int and n > 0 for n in size.values()):
            entry.update(size)
        return entry
