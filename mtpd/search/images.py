"""The images on which costs are measured."""
import hashlib
import json
import os
from fractions import Fraction
from typing import Any, Collection, Iterable, Iterator, NamedTuple, Sequence

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mtpd.config_types import type_name
from mtpd.data.image_list import with_each_image_once
from mtpd.data.readable import next_is_taken, readable_sample
from mtpd.distill.teacher_view.scale import scale_key
from mtpd.distill.teacher_view.transform import with_teacher_view
from mtpd.order import fold_of
from mtpd.plan.data_check import inner_datasets
from mtpd.plan.settings import UnlabelledSettings
from mtpd.plan.unlabelled import dataset_config

FOLDS = 10
"""The number of parts into which the images are divided; each is held out
once."""


class ImageBatch(NamedTuple):
    """Raw images of one size.

    Attributes:
        indices: Of the images in the data set.
        views: Scale -> the images at this scale, (3, H, W) each.
    """
    indices: list[int]
    views: dict[Fraction, list[Tensor]]


class _Annotation(NamedTuple):
    """What the annotations hold about an image; images of equal ``size`` may
    share a batch."""
    name: str
    path: str
    size: tuple


class Images:
    """The images of one split after the student's test pipeline.

    Nothing is random and no label is read, so images without labels serve
    too. A repeated or mixed data set counts each of its images once. In place
    of an image without labels that cannot be read the next one is taken, as
    in training.

    Args:
        student: The student's config.
        split: 'train', 'val' or 'unlabelled'.
        scales: Sizes over the student's at which images are wanted, besides 1.
        unlabelled: ``mtpd.unlabelled``, for this split.
    """

    def __init__(self, student: Config, split: str = 'train',
                 scales: Sequence[Fraction] = (),
                 unlabelled: UnlabelledSettings | None = None) -> None:
        self._keys = {scale: scale_key(scale) for scale in scales}
        steps = [step for step in test_pipeline(student)
                 if type_name(step['type']) != 'LoadAnnotations']
        self._steps = list(map(dict, steps))
        if split == 'unlabelled' and unlabelled is not None:
            config = dataset_config(unlabelled, steps)
        else:
            config = with_each_image_once(
                student[f'{split}_dataloader'].dataset, steps, test_mode=True)
        if scales:
            config = with_teacher_view(config, list(self._keys.values()))
        self._dataset = DATASETS.build(config)
        self._dataset.full_init()
        self._samples = _Readable(self._dataset) if split == 'unlabelled' \
            else self._dataset
        self._annotations = []
        for index in range(len(self._dataset)):
            # Read once: the data set unpacks an entry at each access.
            info = self._dataset.get_data_info(index)
            path = info.get('img_path', '')
            size = ('alone', index)
            if 'height' in info and 'width' in info:
                size = (info['height'], info['width'])
            self._annotations.append(_Annotation(
                str(info.get('img_id', path or index)), path, size))
        # A batch of the validation fits here too: there are no gradients.
        self._batch_size = student.val_dataloader.batch_size
        self._workers = student.val_dataloader.num_workers

    def __len__(self) -> int:
        return len(self._dataset)

    def fingerprint(self) -> str:
        """A hash of the files' names and sizes and of the pipeline. A file
        that is replaced by another one of the same size keeps the hash."""
        digest = hashlib.sha256(json.dumps(
            self._steps, sort_keys=True, default=str).encode())
        for name, path, _ in self._annotations:
            size = os.path.getsize(path) if os.path.isfile(path) else None
            digest.update(
                f'{name} {os.path.basename(path)} {size}\n'.encode(
                    errors='surrogateescape'))
        return digest.hexdigest()[:16]

    def name(self, index: int) -> str:
        """The image's id."""
        return self._annotations[index].name

    def fold(self, index: int) -> int:
        """The image's fold. It follows from the id, so it is the same in
        every order and in every process."""
        return fold_of(self.name(index), FOLDS)

    def by_fold(self, indices: Iterable[int],
                without: Collection[int] = ()) -> dict[int, list[int]]:
        """Fold -> its indices; folds ascend, indices stay in their order.

        Args:
            indices: Of the images.
            without: Indices that are left out.
        """
        folds: dict[int, list[int]] = {}
        for index in indices:
            if index not in without:
                folds.setdefault(self.fold(index), []).append(index)
        return dict(sorted(folds.items()))

    def spread(self, count: int | None) -> list[int]:
        """Indices of ``count`` images, evenly spread; None for all."""
        if count is None or count >= len(self):
            return list(range(len(self)))
        return [len(self) * i // count for i in range(count)]

    def shuffled(self) -> list[int]:
        """All indices in a random order that is the same in every run."""
        return torch.randperm(len(self), generator=torch.Generator()
                              .manual_seed(0)).tolist()

    def batches(self, indices: Sequence[int]) -> list[list[int]]:
        """Batches of images of one size, the same in every process.

        The maps of an image change by a tenth when it is padded beside a
        larger one.
        """
        groups: dict[tuple, list[int]] = {}
        for index in indices:
            groups.setdefault(self._annotations[index].size, []).append(index)
        batches = []
        for group in groups.values():
            for start in range(0, len(group), self._batch_size):
                batches.append(group[start:start + self._batch_size])
        return batches

    def load(self, batches: Sequence[list[int]]) -> Iterator[ImageBatch]:
        """The images of each batch.

        A batch is divided where its images turn out to differ in size,
        because an annotation can be wrong.
        """
        loader = DataLoader(
            self._samples, batch_sampler=batches, num_workers=self._workers,
            collate_fn=list)
        for indices, samples in zip(batches, loader, strict=True):
            by_shape: dict[tuple, ImageBatch] = {}
            for index, sample in zip(indices, samples, strict=True):
                image = sample['inputs']
                batch = by_shape.setdefault(
                    tuple(image.shape), ImageBatch([], {Fraction(1): []}))
                batch.indices.append(index)
                batch.views[Fraction(1)].append(image)
                for scale, key in self._keys.items():
                    batch.views.setdefault(scale, []).append(
                        sample['teacher_inputs'][key])
            yield from by_shape.values()

    def drawn_positions(self, index: int, stride: int, size: tuple[int, int],
                        share: float) -> Tensor:
        """A share of a map's positions, drawn by the image's id.

        Args:
            index: The image.
            stride: Of the map.
            size: (H, W) of the map.
            share: The probability of a position.

        Returns:
            (H, W), bool.
        """
        digest = hashlib.sha256(f'{self.name(index)}:{stride}'.encode(
            errors='surrogateescape'))
        generator = torch.Generator().manual_seed(
            int.from_bytes(digest.digest()[:7], 'big'))
        return torch.rand(size, generator=generator) < share


class _Readable(Dataset):
    """A data set without the images that cannot be read."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> Any:
        return readable_sample(self._dataset, index, next_is_taken)


def test_pipeline(cfg: Config) -> list[dict]:
    """A config's validation pipeline, also of a wrapped data set."""
    _, dataset = next(inner_datasets(cfg.val_dataloader.dataset, ''))
    return dataset.pipeline


vars(test_pipeline)['__test__'] = False  # pytest would run it for its name
