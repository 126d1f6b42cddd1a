"""progression.json: what a work dir holds a run of, and its starts."""
import json
import os
import random
from dataclasses import replace
from typing import Any, Collection, Mapping

from mtpd.compat.atomic_files import atomic_write
from mtpd.distill.hooks.checkpoint import OtherTeacher
from mtpd.plan.identity import identity_of, other_identity
from mtpd.plan.plan import Plan, stage_teachers
from mtpd.plan.work_dir import read_json, read_progression


def is_started(plan: Plan) -> bool:
    """Whether the work dir holds a progression."""
    return os.path.isfile(plan.paths.record)


def seed_of(plan: Plan) -> int:
    """The config's seed, or the one that was drawn once for this work dir.

    Raises:
        UnreadableHistory: The file that stores it is damaged.
    """
    if plan.seed is not None:
        return plan.seed
    drawn = read_progression(plan.paths.record).get('seed')
    if drawn is None:
        drawn = read_json(plan.paths.seed, int, 'Remove it.')
    if drawn is None:
        os.makedirs(plan.work_dir, exist_ok=True)
        # Not by the generators that the seed is for.
        drawn = random.SystemRandom().randrange(2 ** 31)
        atomic_write(plan.paths.seed, json.dumps(drawn).encode())
    return int(drawn)


def read_record(plan: Plan, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What was recorded when the progression began; empty if it has not.

    Raises:
        OtherTeacher: It is another progression.
        UnreadableHistory: The record is damaged.
    """
    if not is_started(plan):
        return {}
    record = read_progression(plan.paths.record)
    other = other_identity(record.get('identity', {}), identity)
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
    recorded = recorded_identity(plan)
    if recorded is None:
        return ''
    order = plan.order or tuple(stage_teachers(label, plan)
                                for label in recorded['order'])
    gone = {*sum(order, ())} - {*plan.teachers}
    if gone:
        return _describe_other(plan, [
            f'teachers: {", ".join(sorted(gone))} there, and not in '
            'mtpd.teachers here'])
    known = {'student': recorded['student'], **recorded['teachers']}
    unchanged = {name: known.get(name) for name in unread}
    if plan.seed is None:  # the one that was drawn is used again
        plan = replace(plan, seed=recorded.get('seed'))
    other = other_identity(recorded, identity_of(plan, order, {
        **unchanged, **dict.fromkeys(retrained, 'to be trained anew')}))
    return _describe_other(plan, other) if other else ''


def recorded_identity(plan: Plan) -> dict[str, Any] | None:
    """The identity of the progression in the work dir; None where none was
    started, or the record is broken, which is told where it is read."""
    try:
        with open(plan.paths.record) as file:
            identity = json.load(file)['identity']
        return {'student': identity['student'], 'order': identity['order'],
                'teachers': {**identity['teachers']}, **identity}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _describe_other(plan: Plan, differences: list[str]) -> str:
    return (f'{plan.work_dir} holds another progression:\n  '
            + '\n  '.join(differences) + '\nRestore the config and its '
            'checkpoints, or start without --resume in another --work-dir.')


def write_record(plan: Plan, record: Mapping[str, Any]) -> None:
    """Write progression.json; the file appears whole or not at all."""
    atomic_write(plan.paths.record, json.dumps(record, indent=1).encode())
