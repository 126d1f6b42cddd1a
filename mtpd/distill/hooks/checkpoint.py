"""Entries of a student's checkpoint beside its weights."""
from typing import Any, Mapping

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mtpd.processes import unwrapped
from mtpd.provenance import as_plain, differences

from ..distiller import FeatureDistiller

ENTRY = 'mtpd'
"""The checkpoint's entry for provenance and training parts."""


class OtherTeacher(ValueError):
    """A checkpoint is of another stage, teacher or order than this run."""


@HOOKS.register_module()
class DistillCheckpointHook(Hook):
    """Saves and restores the trained parts, and records the provenance.

    The checkpoint's ``state_dict`` is the student alone; this hook puts the
    trained parts beside it and the provenance (stage, teachers with their
    hashes, order, costs, versions) under ``checkpoint['mtpd']``.

    Args:
        provenance: Plain values to record. Its ``identity`` entry has to be
            the same in a checkpoint that is resumed.
        identity_defaults: Entry of the identity -> its value in a checkpoint
            of an earlier version, which lacks it.
    """

    def __init__(self, provenance: dict[str, Any],
                 identity_defaults: Mapping[str, Any] | None = None) -> None:
        # The registry hands over its ConfigDict, which no checkpoint needs.
        self.provenance = as_plain(provenance)
        self._identity_defaults = as_plain(identity_defaults or {})

    def before_save_checkpoint(self, runner: Runner,
                               checkpoint: dict) -> None:
        distiller: FeatureDistiller = unwrapped(runner.model)
        parts = distiller.training_parts().state_dict()
        checkpoint[ENTRY] = {
            **self.provenance,
            'logged': list(distiller.logged),
            'training_parts': {k: v.cpu() for k, v in parts.items()}}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Raises :class:`OtherTeacher` for another progression's checkpoint.
        """
        saved = checkpoint.get(ENTRY)
        if not runner._resume:
            return
        if saved is None:
            raise OtherTeacher(
                'The checkpoint to resume was not written by this '
                'progression (it has no "mtpd" entry). Start without '
                '--resume in another --work-dir.')
        identity = self.provenance.get('identity', {})
        defaults = {key: value for key, value
                    in self._identity_defaults.items() if key in identity}
        differing = differences(
            {**defaults, **saved.get('identity', {})}, identity)
        if differing:
            raise OtherTeacher(
                'The checkpoint to resume belongs to another progression:\n  '
                + '\n  '.join(differing) + '\nRestore the config, or start '
                'without --resume in another --work-dir.')
        distiller: FeatureDistiller = unwrapped(runner.model)
        distiller.training_parts().load_state_dict(saved['training_parts'])
        distiller.logged = tuple(saved['logged'])
