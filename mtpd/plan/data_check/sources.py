"""The data sets that a config's loaders read."""
import os
from dataclasses import dataclass
from typing import Any, Iterator

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict

from mtpd.config_types import dict_of
from mtpd.plan.errors import did_you_mean

LOADERS = ('train_dataloader', 'val_dataloader')


@dataclass(frozen=True)
class Source:
    """A data set without wrappers.

    Attributes:
        field: Where the config has it.
        dataset: Its part of the config.
        loader: The loader that it belongs to, one of :data:`LOADERS`.
        kind: Its class; None if there is no such class.
        owner: The prefix of the config's fields, empty for the student's.
    """
    field: str
    dataset: ConfigDict
    loader: str
    kind: type | None
    owner: str = ''

    @property
    def trains(self) -> bool:
        """Whether it is trained on, and not validated on."""
        return self.loader == 'train_dataloader'

    @property
    def root(self) -> str:
        """What its relative paths start from."""
        return self.dataset.get('data_root') or ''

    @property
    def path(self) -> str:
        """Its annotation file."""
        return os.path.join(self.root, self.dataset.get('ann_file') or '')

    @property
    def paths(self) -> list[str]:
        """Its annotation file, and the folders of its images."""
        prefixes = dict_of(self.dataset, 'data_prefix')
        return [self.path, *(os.path.join(self.root, prefix or '')
                             for prefix in prefixes.values())]

    @property
    def is_coco(self) -> bool:
        """Whether mmdet reads its file as COCO JSON, by ``CocoDataset``'s own
        reader."""
        return getattr(self.kind, 'load_data_list', None) \
            is CocoDataset.load_data_list


def inner_datasets(dataset: ConfigDict,
                   field: str) -> Iterator[tuple[str, ConfigDict]]:
    """The data sets that wrappers (repeat, concat, ...) are made of, each
    with its field of the config."""
    if 'datasets' in dataset:
        for i, inner in enumerate(dataset.datasets):
            yield from inner_datasets(inner, f'{field}.datasets.{i}')
    elif 'dataset' in dataset:
        yield from inner_datasets(dataset.dataset, f'{field}.dataset')
    else:
        yield field, dataset


def sources_of(cfg: Config, owner: str = '') -> Iterator[Source]:
    """The data sets of a config's training and validation.

    Args:
        cfg: The config.
        owner: See :class:`Source`.
    """
    for loader in LOADERS:
        if not dict_of(cfg, loader).get('dataset'):
            continue
        for field, dataset in inner_datasets(
                cfg[loader].dataset, f'{owner}{loader}.dataset'):
            yield Source(field, dataset, loader,
                         registered(dataset.get('type')), owner)


def registered(kind: Any) -> type | None:
    """A data set's class by its name in the registry, or the class itself."""
    return kind if isinstance(kind, type) else DATASETS.get(str(kind))


def unknown_type(source: Source) -> list[str]:
    """That there is no data set of a source's type, in words."""
    if source.kind is not None:
        return []
    kind = source.dataset.get('type')
    return [f'{source.field}.type {kind!r} is not known'
            + did_you_mean(kind, [*DATASETS.module_dict, *(
                DATASETS.parent or DATASETS).module_dict], quote=True)]
