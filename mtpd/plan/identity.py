"""What has to be equal for a run to be resumed."""
import json
from typing import Any, Iterable, Mapping

from mtpd.provenance import differences

from .plan import Plan, Stages, stage_label
from .settings import settings_of
from .unlabelled import images_per_step, unlabelled_hash

# Options that change what is trained. The others change how long it takes,
# or how it is watched over.
_OPTIONS = ('distill', 'strides', 'handover', 'adapter', 'init_adapters',
            'inherit', 'fade')


def identity_of(plan: Plan, order: Stages,
                known: Mapping[str, str | None] | None = None
                ) -> dict[str, Any]:
    """What has to be equal for a run to be resumed, as plain JSON values.

    Args:
        plan: The progression.
        order: Its stages.
        known: Detector -> the hash that stands for a checkpoint which is not
            read.
    """
    names = [name for stage in order for name in stage]
    hashes = hashes_of(plan, names, known or {})
    return plain_json({
        'student': hashes['student'],
        'teachers': {name: hashes[name] for name in names},
        'scales': {name: plan.teachers[name].scale for name in names},
        'order': [stage_label(stage) for stage in order],
        **{option: getattr(plan, option) for option in _OPTIONS},
        'seed': plan.seed, **_sliced(plan), **_unlabelled(plan)})


def _sliced(plan: Plan) -> dict[str, Any]:
    """What the student is a slice of; nothing where it is none."""
    source = plan.student.sliced_from
    return {} if source is None else {'sliced_from': source.hash()}


def _unlabelled(plan: Plan) -> dict[str, Any]:
    """What of the images without labels changes what is trained; nothing
    where there are none, as in files of earlier versions."""
    settings = plan.unlabelled
    if settings is None or not plan.distils:
        return {}
    return {'unlabelled': {
        'images': unlabelled_hash(settings),
        'batch_size': images_per_step(settings, plan.student.config),
        'pipeline': settings.pipeline, 'batch_norm': settings.batch_norm}}


def hashes_of(plan: Plan, names: Iterable[str],
              known: Mapping[str, str | None]) -> dict[str, str | None]:
    """The hashes of the student's checkpoint and of teachers'.

    Args:
        plan: The progression.
        names: The teachers.
        known: As in :func:`identity_of`.
    """
    hashes = dict(known)
    for name in ('student', *names):
        if name not in hashes:
            hashes[name] = plan.specs[name].hash()
    return hashes


def identity_defaults() -> dict[str, Any]:
    """What it means if the identity in a file of an earlier version lacks an
    option: that it had the option's default."""
    known = settings_of(Plan)
    return plain_json({
        option: known[option].default for option in _OPTIONS
        if option != 'distill'} | {'adapter': 'auto'})


def other_identity(recorded: Mapping[str, Any],
                   expected: Mapping[str, Any]) -> list[str]:
    """Where the identity in a file is not the expected one, line by line.

    Args:
        recorded: As in the file; an option that is absent has its default.
        expected: From :func:`identity_of`.
    """
    return differences({**identity_defaults(), **recorded}, expected)


def plain_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they are after a way through JSON."""
    return json.loads(json.dumps(values, default=str))
