"""progression.json: what a work dir holds a run of, and its starts."""
import json
import os
from dataclasses import replace
from typing import Any, Collection, Mapping

from mtpd.compat.atomic_files import atomic_write
from mtpd.distill.hooks.checkpoint import OtherTeacher
from mtpd.plan.identity import identity_of, other_identity
from mtpd.plan.plan import Plan, stage_teachers


def is_started(plan: Plan) -> bool:
    """Whether the work dir holds a progression."""
    return os.path.isfile(plan.paths.record)


def read_record(plan: Plan, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What was recorded when the progression began; empty if it has not.

    Raises:
        OtherTeacher: It is another progression.
    """
    if not is_started(plan):
        return {}
    with open(plan.paths.record) as file:
        record = json.load(file)
    other = other_identity(record['identity'], identity)
    if other:
        raise OtherTeacher(_describe_other(plan, other))
    return record


def other_progression(plan: Plan, unread: Collection[str],
                      retrained: Collection[str] = ()) -> str:
    """That the work dir holds a progression which this plan could not resume,
    in words, as far as it is known before anything runs; empty if it could,
    or there is none.

    Args:
        plan: The progression.
        unread: Detectors whose checkpoints are not there, or not yet.
        retrained: Those among them that will be trained anew.
    """
    try:
        with open(plan.paths.record) as file:
            recorded = json.load(file)['identity']
        order = plan.order or tuple(stage_teachers(label, plan)
                                    for label in recorded['order'])
        hashes = {'student': recorded['student'], **recorded['teachers']}
    except (OSError, ValueError, KeyError, TypeError):
        return ''  # nothing was started; or it is told where it is read
    names = [name for stage in order for name in stage]
    gone = [name for name in names if name not in plan.teachers]
    if gone:
        return _describe_other(plan, [
            f'teachers: {", ".join(gone)} there, and not in mtpd.teachers '
            'here'])
    known: dict[str, str | None] = {}
    for name in retrained:
        known[name] = 'to be trained anew'
    for name in set(unread) - set(retrained):
        known[name] = hashes.get(name)
    if plan.seed is None:  # the one that was drawn is used again
        plan = replace(plan, seed=recorded.get('seed'))
    other = other_identity(recorded, identity_of(plan, order, known))
    return _describe_other(plan, other) if other else ''


def _describe_other(plan: Plan, differences: list[str]) -> str:
    return (f'{plan.work_dir} holds another progression:\n  '
            + '\n  '.join(differences) + '\nRestore the config and its '
            'checkpoints, or start without --resume in another --work-dir.')


def write_record(plan: Plan, record: Mapping[str, Any]) -> None:
    """Write progression.json; the file appears whole or not at all."""
    atomic_write(plan.paths.record, json.dumps(record, indent=1).encode())
