"""Whether the files that a plan needs exist."""
import os
from typing import Any, Iterator

from mmdet.registry import DATASETS
from mmengine.config import ConfigDict

from .detectors import is_url
from .paths import looked_in
from .plan import Plan


def missing_files(plan: Plan) -> list[str]:
    """What the plan needs and cannot find, one message each.

    Looks at checkpoints, annotation files, image folders and each image that
    the annotations name. URLs are looked at when they are fetched.
    """
    return missing_checkpoints(plan) + missing_data(plan)


def missing_checkpoints(plan: Plan) -> list[str]:
    """The part of :func:`missing_files` that is about checkpoints."""
    problems = []
    for name in ('student', *plan.used):
        spec = plan.specs[name]
        path = spec.checkpoint
        if path and not is_url(path) and not os.path.isfile(path):
            problems.append(
                f'{spec.checkpoint_field}: there is no file {path}'
                f'{looked_in(path, plan.student.config.filename)}. Train it '
                '(tools/train.py with its own config), or correct the path.')
    return problems


def missing_data(plan: Plan) -> list[str]:
    """The part of :func:`missing_files` that is about the data set."""
    problems = []
    for part in ('train_dataloader', 'val_dataloader'):
        for field, dataset in inner_datasets(
                plan.student.config[part].dataset, f'{part}.dataset'):
            root = dataset.get('data_root') or ''
            annotations = os.path.join(root, dataset.get('ann_file') or '')
            if is_url(annotations):
                continue
            missing = _missing_paths(field, dataset, root, annotations)
            problems += missing or _missing_images(
                field, dataset, annotations,
                'training image' if part == 'train_dataloader' else 'image')
    return problems


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


def _missing_paths(field: str, dataset: ConfigDict, root: str,
                   annotations: str) -> list[str]:
    problems = []
    if not os.path.isfile(annotations):
        problems.append(
            f'{field}.ann_file: there is no file {annotations}. Put the '
            f'annotations there, or set data_root and ann_file of {field}.')
    for key, prefix in dataset.get('data_prefix', {}).items():
        folder = os.path.join(root, prefix)
        if not os.path.isdir(folder):
            problems.append(
                f'{field}.data_prefix.{key}: there is no folder {folder}. Put '
                f'the images there, or set data_root of {field}.')
    return problems


def _missing_images(field: str, dataset: ConfigDict, annotations: str,
                    image: str) -> list[str]:
    built = DATASETS.build(ConfigDict({**dataset, 'pipeline': [],
                                       'lazy_init': True}))
    built.serialize_data = False  # numpy cannot serialise an empty list
    built.full_init()
    if len(built) == 0:
        return [f'{field}: no {image} is left of {annotations} (classes '
                f'{built.metainfo.get("classes")}, filter_cfg '
                f'{dataset.get("filter_cfg")}). Check that '
                f'{field}.metainfo.classes are the names of the annotation '
                "file's categories."]
    missing = _not_on_disk(built)
    if not missing:
        return []
    return [f'{field}: {len(missing)} of {len(built)} images that '
            f'{annotations} names are missing, the first is {missing[0]}. '
            f'Complete the folder, or set {field}.data_prefix.']


def _not_on_disk(dataset: Any) -> list[str]:
    """The images that are not there; each folder is listed once."""
    folders: dict[str, set[str]] = {}
    missing = []
    for i in range(len(dataset)):
        path = dataset.get_data_info(i).get('img_path', '')
        if is_url(path) or not path:
            continue
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = set(os.listdir(folder)) \
                if os.path.isdir(folder) else set()
        if name not in folders[folder]:
            missing.append(path)
    return missing
