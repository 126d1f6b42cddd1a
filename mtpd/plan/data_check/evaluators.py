"""What a config's evaluators expect of the validation's loader."""
import filecmp
import os
from collections import Counter
from typing import Any, Iterator, Mapping, Sequence

from mmengine.config import Config

from mtpd.config_types import type_name
from mtpd.plan.detectors import is_url
from mtpd.plan.errors import PlanError

from .annotations import content_problems, read_annotations
from .reading import ReadSource, numbered_classes
from .sources import Source


def evaluator_problems(cfg: Config, owner: str,
                       reads: Sequence[ReadSource]) -> list[str]:
    """Evaluators that read another file than the validation's loader, and
    image ids that its parts share.

    Args:
        cfg: The config.
        owner: The prefix of its fields.
        reads: The data sets of the validation.
    """
    problems = []
    for field, metric in metrics_of(cfg, owner):
        path = metric.get('ann_file')
        is_coco = type_name(metric.get('type')) == 'CocoMetric'
        if len(reads) > 1 and is_coco:
            problems += shared_ids(reads)
        if not path or is_url(path):
            continue
        if not os.path.isfile(path):
            problems.append(
                f'{field}.ann_file: there is no file {path}. Name the '
                f"annotation file of {owner}val_dataloader's data set.")
        elif len(reads) == 1:
            problems += other_file(field, path, reads[0].source)
        elif reads and is_coco:
            problems += other_images(field, path, reads)
    return list(dict.fromkeys(problems))


def is_measured_by_coco(cfg: Config) -> bool:
    """Whether COCO's evaluation reads an annotation file by itself."""
    return any(type_name(metric.get('type')) == 'CocoMetric'
               and metric.get('ann_file') for _, metric in metrics_of(cfg))


def metrics_of(cfg: Config,
               owner: str = '') -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The metrics of ``val_evaluator`` with their fields."""
    evaluator = cfg.get('val_evaluator')
    if isinstance(evaluator, (list, tuple)):
        for i, metric in enumerate(evaluator):
            yield f'{owner}val_evaluator.{i}', metric
    # With metrics inside, it is an evaluator of its own, for parts of a set.
    elif isinstance(evaluator, Mapping) and 'metrics' not in evaluator:
        yield f'{owner}val_evaluator', evaluator


def shared_ids(reads: Sequence[ReadSource]) -> list[str]:
    """That two parts of a validation set use the same image id."""
    counts = Counter(image for read in reads for image in set(read.image_ids))
    shared = [image for image, count in counts.items() if count > 1]
    if not shared:
        return []
    return [f'{reads[0].source.owner}val_dataloader joins '
            f'{len(reads)} data sets, and {len(shared)} image ids are in more '
            f'than one of them, the first is {shared[0]!r}: CocoMetric would '
            'take their images for one. Write one annotation file of all '
            'images with ids of their own, and name it in val_dataloader and '
            'val_evaluator.']


def other_file(field: str, path: str, source: Source) -> list[str]:
    """That an evaluator's file has another content than a data set's."""
    if is_url(source.path) or os.path.realpath(path) == os.path.realpath(
            source.path) or filecmp.cmp(path, source.path, shallow=False):
        return []
    return [f'{field}.ann_file is {path}, and {source.field}.ann_file is '
            f'{source.path}: the detections of one would be compared with the '
            f'boxes of the other. Set both to the same file.']


def other_images(field: str, path: str,
                  reads: Sequence[ReadSource]) -> list[str]:
    """Why one evaluator's file does not belong to the data sets that a
    validation joins."""
    try:
        content = read_annotations(path, f'{field}.ann_file: {path}')
    except PlanError as error:
        return error.problems
    problems = content_problems(content, evaluated=True)
    if problems:
        return [f'{field}.ann_file: {path} {problem}' for problem in problems]
    known = {image['id'] for image in content['images']}
    loaded: set = set()
    for read in reads:
        loaded.update(read.image_ids)
    order = numbered_classes(reads[0].source, reads[0].classes, content)
    if known == loaded and order == reads[0].numbered:
        return []
    return [f'{field}.ann_file: {path} has {len(known)} images, and '
            f'val_dataloader joins {len(reads)} data sets of {len(loaded)} '
            f'images, {len(known & loaded)} of which are in that file: '
            'CocoMetric measures with one file alone. Join the annotation '
            'files into one (equal ids and order of categories), and name it '
            'in val_dataloader and val_evaluator.']
