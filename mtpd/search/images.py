"""The images that costs are measured on."""
import hashlib
import json
import os
from fractions import Fraction
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from torch import Tensor
from torch.utils.data import DataLoader

from mtpd.distill.teacher_view.transform import with_teacher_view
from mtpd.order.map_batch import fold_of
from mtpd.plan.data_check import inner_datasets

FOLDS = 10
"""Into so many parts the images are divided, each held out once."""


def test_pipeline(cfg: Config) -> list[dict]:
    """A config's validation pipeline, also where its data set is wrapped."""
    _, dataset = next(inner_datasets(cfg.val_dataloader.dataset, ''))
    return dataset.pipeline


vars(test_pipeline)['__test__'] = False  # by its name pytest would run it


class _About(NamedTuple):
    """What the annotations say of an image; ``size`` is equal for those that
    may share a batch."""
    name: str
    path: str
    size: tuple

    @classmethod
    def of(cls, info: Mapping[str, Any], index: int) -> '_About':
        path = info.get('img_path', '')
        return cls(str(info.get('img_id', path or index)), path, (
            info['height'], info['width']) if 'height' in info
            and 'width' in info else ('alone', index))


class Images:
    """One split through the student's test pipeline.

    Nothing is random and no label is read, so images without any serve too.
    A repeated or mixed data set counts each of its own images once.

    Args:
        student: The student's config.
        split: 'train' or 'val'.
        scales: Sizes beside 1 at which images are wanted as well.

    Attributes:
        scales: As given.
    """

    def __init__(self, student: Config, split: str = 'train',
                 scales: Sequence[Fraction] = ()) -> None:
        self.scales = tuple(scales)
        steps = [step for step in test_pipeline(student)
                 if step['type'] != 'LoadAnnotations']
        self._steps = [dict(step) for step in steps]
        config = _plain(student[f'{split}_dataloader'].dataset, steps)
        self._dataset = DATASETS.build(with_teacher_view(
            config, scales) if scales else config)
        self._dataset.full_init()
        # Asked for one by one, each would be unpacked again and again.
        self._about = [_About.of(self._dataset.get_data_info(i), i)
                       for i in range(len(self._dataset))]
        # What a validation takes at once also fits here: no gradient either.
        self._batch_size = student.val_dataloader.batch_size
        self._workers = student.val_dataloader.num_workers

    def __len__(self) -> int:
        return len(self._dataset)

    def fingerprint(self) -> str:
        """Of the files' names and sizes and of what is done to them. Files
        that are replaced by others of the same size are not noticed."""
        digest = hashlib.sha256(json.dumps(
            self._steps, sort_keys=True, default=str).encode())
        for name, path, _ in self._about:
            size = os.path.getsize(path) if os.path.isfile(path) else None
            digest.update(
                f'{name} {os.path.basename(path)} {size}\n'.encode())
        return digest.hexdigest()[:16]

    def name(self, index: int) -> str:
        """The image's id."""
        return self._about[index].name

    def fold(self, index: int) -> int:
        """By the image's id: the same whatever the order or the process."""
        return fold_of(self.name(index), FOLDS)

    def spread(self, count: int | None) -> list[int]:
        """So many images, evenly spread; None for all."""
        if count is None or count >= len(self):
            return list(range(len(self)))
        return [len(self) * i // count for i in range(count)]

    def shuffled(self) -> list[int]:
        """All images in a random order that is the same in every run."""
        return torch.randperm(len(self), generator=torch.Generator()
                              .manual_seed(0)).tolist()

    def batches(self, indices: Sequence[int]) -> list[list[int]]:
        """Batches of images of one size, the same in every process.

        An image's maps change by a tenth when it is padded beside a larger
        one.
        """
        by_size: dict[Any, list[int]] = {}
        for index in indices:
            by_size.setdefault(self._about[index].size, []).append(index)
        size = self._batch_size
        return [group[i:i + size] for group in by_size.values()
                for i in range(0, len(group), size)]

    def load(self, batches: Sequence[list[int]]
             ) -> Iterator[tuple[list[int], dict[str, list[Tensor]]]]:
        """The indices of a batch, and scale -> its raw images (3, H, W).

        A batch is divided where its images turn out to differ in size: an
        annotation can be wrong about one.
        """
        loader = DataLoader(
            self._dataset, batch_sampler=batches, num_workers=self._workers,
            collate_fn=_as_they_are)
        for batch, samples in zip(batches, loader, strict=True):
            groups: dict[tuple, list[tuple[int, dict]]] = {}
            for index, sample in zip(batch, samples, strict=True):
                views = {'1': sample['inputs'],
                         **sample.get('teacher_inputs', {})}
                groups.setdefault(tuple(views['1'].shape), []).append(
                    (index, views))
            for group in groups.values():
                yield ([index for index, _ in group],
                       {scale: [views[scale] for _, views in group]
                        for scale in group[0][1]})

    def drawn_share(self, index: int, stride: int, size: tuple[int, int],
                    share: float) -> Tensor:
        """(H, W), bool: a share of a map's positions, drawn by image."""
        digest = hashlib.sha256(f'{self.name(index)}:{stride}'.encode())
        generator = torch.Generator().manual_seed(
            int.from_bytes(digest.digest()[:7], 'big'))
        return torch.rand(size, generator=generator) < share


def _plain(dataset: ConfigDict, steps: list[dict]) -> ConfigDict:
    """A data set's images, each once, through these steps."""
    dataset = dataset.copy()
    if 'datasets' in dataset:
        dataset.datasets = [_plain(d, steps) for d in dataset.datasets]
        dataset.pop('pipeline', None)
    elif 'dataset' in dataset:
        # A repeated or mixed data set has no other images than its own.
        return _plain(dataset.dataset, steps)
    else:
        dataset.pipeline = steps
        dataset.test_mode = True  # keeps images without boxes
    return dataset


def _as_they_are(samples: list[dict]) -> list[dict]:
    return samples
