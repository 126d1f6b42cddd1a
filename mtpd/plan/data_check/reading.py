"""Data sets as mmdet's own classes read them."""
import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Sequence

from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS
from mmengine.config import ConfigDict

from mtpd.config_types import type_name
from mtpd.plan.detectors import is_url
from mtpd.plan.errors import PlanError

from .annotations import (category_names, content_problems, read_annotations,
                          why_no_box)
from .classes import classes_of_dataset, name_problems
from .files import missing_annotations, missing_folders, missing_images
from .sources import Source, unknown_type


@dataclass(frozen=True)
class ReadSource:
    """What mmdet has read of a data set.

    Attributes:
        source: The data set.
        classes: By config; None if unknown.
        numbered: The same names in the order of their numbers.
        image_ids: Of the images that are left.
        boxes: The number of boxes that are trained on, or measured with.
        why_no_box: If there is none.
        without_mask: The number of objects without a mask.
        paths: The image files.
    """
    source: Source
    classes: tuple[str, ...] | None
    numbered: tuple[str, ...] | None
    image_ids: Sequence[Any]
    boxes: int
    why_no_box: str
    without_mask: int
    paths: Sequence[str] = ()


class FileReader:
    """Reads the data sets of one annotation file, and the file once.

    Args:
        evaluated: Whether COCO's evaluation reads the file too.
        to_train: Whether the labels of training images are needed.

    Attributes:
        reads: What could be read, by the field of the data set.
        problems: Why others could not, and which images are missing.
    """

    def __init__(self, evaluated: bool, to_train: bool) -> None:
        self.reads: dict[str, ReadSource] = {}
        self.problems: list[str] = []
        self._evaluated, self._to_train = evaluated, to_train
        self._content: dict[str, Any] | None = None

    def read(self, source: Source) -> None:
        """Read a data set; one that is fetched is not looked at."""
        if is_url(source.path):
            return
        try:
            self._read(source)
        except PlanError as error:
            self.problems += error.problems

    def _read(self, source: Source) -> None:
        demand(unknown_type(source))
        absent = missing_annotations(source)
        demand(absent + missing_folders(source) if absent else [])
        labelled = self._to_train or not source.trains
        classes = classes_of_dataset(source)
        content = self._content_of(source, labelled)
        labels = content if labelled else None
        numbered = numbered_classes(source, classes, labels)
        images = images_of(source, content)
        if not images:
            image = 'training image' if source.trains else 'image'
            raise PlanError([
                f'{source.field}: no {image} is left of {source.path} '
                f'(classes {classes}, filter_cfg '
                f'{source.dataset.get("filter_cfg")}). Check that '
                f'{source.field}.metainfo.classes are the names of the '
                "annotation file's categories."])
        boxes, without_mask = count_objects(images)
        self.reads[source.field] = ReadSource(
            source, classes, numbered,
            [image.get('img_id', i) for i, image in enumerate(images)], boxes,
            why_no_box(labels, classes or ()) if labels and not boxes
            else 'no object of these classes', without_mask,
            [image.get('img_path', '') for image in images])
        self.problems += missing_images(source, images)

    def _content_of(self, source: Source,
                    labelled: bool) -> dict[str, Any] | None:
        """A COCO file's content; None of another form.

        Raises:
            PlanError: It cannot be used.
        """
        if not source.is_coco:
            return None
        if self._content is None:
            start = f'{source.field}.ann_file: {source.path}'
            content = read_annotations(source.path, start)
            demand([f'{start} {problem}' for problem in content_problems(
                content, self._evaluated, labelled)])
            self._content = content
        return self._content


def demand(problems: list[str]) -> None:
    """Nothing, if there is no problem.

    Raises:
        PlanError: There is one.
    """
    if problems:
        raise PlanError(problems)


def numbered_classes(source: Source, classes: tuple[str, ...] | None,
                     content: dict[str, Any] | None
                     ) -> tuple[str, ...] | None:
    """The classes in the order of their numbers: that of a COCO file.

    Args:
        source: The data set.
        classes: By config; None if unknown.
        content: Of its COCO file, if it is one with labels.

    Raises:
        PlanError: The file does not have them.
    """
    if content is None or classes is None:
        return classes
    categories = category_names(content)
    demand(name_problems(source, classes, categories))
    return tuple(name for name in categories if name in classes)


def images_of(source: Source,
              content: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What mmdet reads of each image.

    Args:
        source: The data set.
        content: Of its COCO file, if it is one, so that it is not read again.

    Raises:
        PlanError: mmdet cannot read it.
    """
    try:
        built = DATASETS.build(ConfigDict({**source.dataset, 'pipeline': [],
                                           'lazy_init': True}))
        built.serialize_data = False  # numpy cannot serialise an empty list
        if content is not None:
            index = indexed(content)
            built.COCOAPI = lambda path: index
        built.full_init()
    except Exception as error:  # a data set of any library may raise any
        raise PlanError([
            f'{source.field}: {type_name(source.kind)} cannot read '
            f'{source.path}: {type(error).__name__}: {error}. Correct the '
            f'file, or the settings of {source.field}.']) from error
    return list(built.data_list)


def indexed(content: dict[str, Any]) -> COCO:
    """pycocotools' index of a file that has been read."""
    index = COCO()
    index.dataset = {'categories': [], **content}
    with redirect_stdout(io.StringIO()):  # it reports its progress
        index.createIndex()
    index.img_ann_map = index.imgToAnns
    index.cat_img_map = index.catToImgs
    return index


def count_objects(images: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """The boxes that are trained on, and the objects without a mask."""
    boxes = without_mask = 0
    for image in images:
        for instance in image.get('instances') or ():
            boxes += not instance.get('ignore_flag')
            without_mask += 'mask' not in instance
    return boxes, without_mask
