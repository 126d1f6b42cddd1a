"""What a checkpoint of a distilled student says beside its weights."""
from typing import Any, Mapping

import numpy as np
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from ..distiller import FeatureDistiller

ENTRY = 'mtpd'
"""The checkpoint's entry for provenance and training parts."""


class OtherTeacher(ValueError):
    """A checkpoint is of another stage, teacher or order than this run."""


def differences(found: Mapping[str, Any], expected: Mapping[str, Any],
                path: str = '') -> list[str]:
    """Lines ``field: found, expected`` where two nested dicts differ."""
    lines = []
    for key in sorted({*found, *expected}, key=str):
        one, other = found.get(key), expected.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            lines += differences(one, other, f'{path}{key}.')
        elif one != other:
            lines.append(f'{path}{key}: {one!r} there, {other!r} here')
    return lines


def as_plain(value: Any) -> Any:
    """Dicts, lists, tuples, strings, numbers, booleans, None and tensors as
    they are; numpy's arrays and numbers as Python's.

    Raises:
        TypeError: Anything else, which a plain ``torch.load`` would refuse.
    """
    if value is None or isinstance(value, (bool, Tensor)):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    for plain in (str, int, float):  # torch's version is a subclass of str
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, Mapping):
        return {as_plain(k): as_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        kind = list if isinstance(value, list) else tuple
        return kind(map(as_plain, value))
    raise TypeError(f'{type(value).__name__} cannot stand in a plain '
                    'checkpoint; record a string or a number.')


@HOOKS.register_module()
class DistillCheckpointHook(Hook):
    """Saves and restores the adapters and records where weights come from.

    The checkpoint's ``state_dict`` is the student alone; this hook puts the
    trained parts beside it and the provenance (stage, teachers with their
    hashes, order, costs, versions) under ``checkpoint['mtpd']``.

    Args:
        provenance: Plain values to record. Its ``identity`` entry has to be
            the same in a checkpoint that is resumed.
    """

    def __init__(self, provenance: dict[str, Any]) -> None:
        # The registry hands over its ConfigDict, which no checkpoint needs.
        self.provenance = as_plain(provenance)

    def before_save_checkpoint(self, runner: Runner,
                               checkpoint: dict) -> None:
        parts = _distiller(runner).training_parts().state_dict()
        checkpoint[ENTRY] = {
            **self.provenance,
            'logged': list(_distiller(runner).logged),
            'training_parts': {k: v.cpu() for k, v in parts.items()}}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Raises :class:`OtherTeacher` where a resume is not a resume."""
        saved = checkpoint.get(ENTRY)
        if not runner._resume:
            return
        if saved is None:
            raise OtherTeacher(
                'The checkpoint to resume was not written by this '
                'progression (it has no "mtpd" entry). Start without '
                '--resume in another --work-dir.')
        differing = differences(saved.get('identity', {}),
                                self.provenance.get('identity', {}))
        if differing:
            raise OtherTeacher(
                'The checkpoint to resume belongs to another progression:\n  '
                + '\n  '.join(differing) + '\nRestore the config, or start '
                'without --resume in another --work-dir.')
        distiller = _distiller(runner)
        distiller.training_parts().load_state_dict(saved['training_parts'])
        distiller.logged = tuple(saved['logged'])


def _distiller(runner: Runner) -> FeatureDistiller:
    return runner.model.module if is_model_wrapper(runner.model) \
        else runner.model
