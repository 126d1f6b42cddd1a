"""Which class each output of a detector means, and which of the student's it
is.

A head numbers its classes as its training set did. mmdet's ``CocoDataset``
takes the order of the annotation file, whatever the order of
``metainfo.classes``; a checkpoint holds the latter.
"""
import json
import os
from functools import lru_cache
from typing import Any, Mapping

from mmdet.models.detectors import BaseDetector

from mtpd.compat.checkpoints import fetch_checkpoint, read_checkpoint
from mtpd.distill.detector import dataset_meta_of

from .data_check.classes import classes_of_dataset, head_classes
from .data_check.sources import Source, sources_of
from .detectors import DetectorSpec
from .errors import PlanError, did_you_mean


def label_map(student: DetectorSpec, teacher: DetectorSpec,
              detector: BaseDetector | None = None) -> tuple[int, ...] | None:
    """The student's number of each class that a teacher predicts, by name.

    Args:
        student: The student; its validation set has the classes.
        teacher: The teacher.
        detector: Built from it, if it is; then no checkpoint is read.

    Returns:
        For each output -1 where the student does not know the class; None
        where both number the same classes alike, or names are not known.

    Raises:
        PlanError: The teacher lacks a class of the student, or it is not
            certain how it numbers them.
    """
    wanted = validated_classes(student)
    names = predicted_classes(teacher, detector)
    if not wanted or not names or wanted == names:
        return None
    missing = sorted(set(wanted) - set(names), key=wanted.index)
    if missing:
        raise PlanError([
            f'{teacher.field}.ap is not known and cannot be measured: it '
            f'predicts {len(names)} classes, and {missing[0]!r} of the '
            "validation set's is not among them"
            + did_you_mean(missing[0], names[:20], quote=True)
            + ' Declare ap for every teacher, or train it on these classes.'])
    return tuple(wanted.index(name) if name in wanted else -1
                 for name in names)


def validated_classes(spec: DetectorSpec) -> tuple[str, ...]:
    """The classes of a config's validation set in the order of
    ``metainfo.classes``, which the data check compares with the file."""
    for source in sources_of(spec.config):
        if not source.trains:
            return classes_of_dataset(source) or ()
    return ()


def predicted_classes(spec: DetectorSpec,
                      detector: BaseDetector | None = None
                      ) -> tuple[str, ...]:
    """The classes of a detector's outputs, by its checkpoint, else by its
    config; empty if neither says them.

    Args:
        spec: The detector.
        detector: Built from it, if it is; then no checkpoint is read.

    Raises:
        PlanError: They are the same in different orders.
    """
    _, count = next(head_classes(spec.config.model), ('', None))
    place = ''
    names: tuple[str, ...] = ()
    for other, different in {
            f'its checkpoint {spec.checkpoint}': checkpoint_classes(spec,
                                                                    detector),
            **trained_classes(spec)}.items():
        # Names of other classes say nothing about these outputs.
        if not different or count not in (None, len(different)):
            continue
        place, names = (place, names) if names else (other, different)
        if different != names and set(different) == set(names):
            raise PlanError([
                f'{spec.field}.ap is not known, and it is not certain which '
                f'of its outputs is which class: {place} lists '
                f'{_list(names)}, and {other} lists {_list(different)}. '
                'Declare ap for every teacher, or correct the order in its '
                'config.'])
    return names


def checkpoint_classes(spec: DetectorSpec,
                       detector: BaseDetector | None = None
                       ) -> tuple[str, ...]:
    """The classes that a detector's checkpoint lists; empty if none.

    Args:
        spec: The detector.
        detector: Built from it, if it is; then no file is read.
    """
    meta: Mapping[str, Any] = {}
    if detector is not None:
        meta = getattr(detector, 'dataset_meta', None) or {}
    elif spec.checkpoint is not None:
        meta = dataset_meta_of(read_checkpoint(fetch_checkpoint(
            spec.checkpoint)))
    return tuple(meta.get('classes') or ())


def trained_classes(spec: DetectorSpec) -> dict[str, tuple[str, ...]]:
    """Where a detector's config says its classes -> them: its training set,
    and the set's annotation file if it is there."""
    source = next(iter(sources_of(spec.config)), None)
    if source is None:
        return {}
    classes = classes_of_dataset(source) or ()
    places = {f'{source.field}.metainfo.classes of its config': classes}
    if 'metainfo' in source.dataset:
        # Without it, they are those of mmdet's own files, in their order.
        places[f'its annotation file {source.path}'] = tuple(
            filter(classes.__contains__, listed_categories(source)))
    return places


def listed_categories(source: Source) -> tuple[str, ...]:
    """The categories of a data set's COCO file in their order; empty where
    there is none."""
    if not source.is_coco or not os.path.isfile(source.path):
        return ()
    status = os.stat(source.path)
    return categories_in(source.path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def categories_in(path: str, _modified: int, _size: int) -> tuple[str, ...]:
    """Read once, as long as the file stays as it is."""
    try:
        with open(path, encoding='utf-8-sig') as file:
            return tuple(str(category['name'])
                         for category in json.load(file)['categories'])
    except (KeyError, TypeError, ValueError):
        return ()  # the data check says so where the file is needed


def _list(names: tuple[str, ...]) -> str:
    return ', '.join(names[:8]) + (', ...' if len(names) > 8 else '')
