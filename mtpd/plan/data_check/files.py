"""Whether checkpoints, annotation files, folders and images exist."""
import os
from typing import Any, Iterable, Mapping

from mtpd.config_types import dict_of
from mtpd.plan.detectors import is_url
from mtpd.plan.paths import looked_in
from mtpd.plan.plan import Plan

from .sources import Source


def missing_checkpoints(plan: Plan) -> list[str]:
    """The checkpoints of a plan that are not there, one message each. URLs
    are looked at when they are fetched."""
    problems = []
    for name in ('student', *plan.used):
        spec = plan.specs[name].sliced_from or plan.specs[name]
        path = spec.checkpoint
        if path and not is_url(path) and not os.path.isfile(path):
            problems.append(
                f'{spec.checkpoint_field}: there is no file {path}'
                f'{looked_in(path, plan.student.config.filename)}. Correct '
                'the path, or train it: tools/from_scratch.py trains every '
                'detector whose file is not there, tools/train.py with its '
                'own config this one.')
    return problems


def missing_annotations(source: Source) -> list[str]:
    """That a data set's annotation file is not there, or not set."""
    field = source.field
    if source.is_coco and 'img' not in dict_of(source.dataset, 'data_prefix'):
        return [f'{field}.data_prefix.img is not set. Name the folder of the '
                "images, or '' where the annotations name whole paths."]
    if not source.dataset.get('ann_file'):
        return [f'{field}.ann_file is not set. Name its annotation file.']
    if os.path.isfile(source.path):
        return []
    return [f'{field}.ann_file: there is no file {source.path}. Put the '
            f'annotations there, or set data_root and ann_file of {field}.']


def missing_folders(source: Source, without: str = '') -> list[str]:
    """The folders of a data set that are not there. An empty prefix without a
    ``data_root`` names none.

    Args:
        source: The data set.
        without: A key of ``data_prefix`` that is not looked at.
    """
    problems = []
    for key, prefix in dict_of(source.dataset, 'data_prefix').items():
        folder = os.path.join(source.root, prefix or '')
        if folder and key != without and not is_url(folder) \
                and not os.path.isdir(folder):
            problems.append(
                f'{source.field}.data_prefix.{key}: there is no folder '
                f'{folder}. Put the images there, or set data_root of '
                f'{source.field}.')
    return problems


def missing_images(source: Source,
                   images: Iterable[Mapping[str, Any]]) -> list[str]:
    """The images of a data set that are not there.

    Args:
        source: The data set.
        images: What mmdet has read of each image.
    """
    images = list(images)
    missing = not_on_disk(images)
    if not missing:  # with whole paths as file names, no folder is needed
        return missing_folders(source, without='img')
    folders = missing_folders(source)
    if folders:
        return folders
    return [f'{source.field}: {len(missing)} of {len(images)} images that '
            f'{source.path} names are missing, the first is {missing[0]}. '
            f'Complete the folder, or set {source.field}.data_prefix.']


def not_on_disk(images: Iterable[Mapping[str, Any]]) -> list[str]:
    """The images that are not there; each folder is listed once."""
    folders: dict[str, set[str]] = {}
    missing = []
    for image in images:
        path = image.get('img_path', '')
        if is_url(path) or not path:
            continue
        folder, name = os.path.split(path)
        folder = folder or '.'
        if folder not in folders:
            folders[folder] = set(os.listdir(folder)) \
                if os.path.isdir(folder) else set()
        if name not in folders[folder]:
            missing.append(path)
    return missing
