"""progression.json: what a work dir holds a run of, and its starts."""
import json
import os
from typing import Any, Mapping

from mtpd.compat.atomic_files import atomic_write
from mtpd.distill.hooks.checkpoint import OtherTeacher
from mtpd.plan.identity import other_identity
from mtpd.plan.plan import Plan

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
        raise OtherTeacher(
            f'{plan.work_dir} holds another progression:\n  '
            + '\n  '.join(other) + '\nRestore the config, or start without '
            '--resume in another --work-dir.')
    return record


def write_record(plan: Plan, record: Mapping[str, Any]) -> None:
    """Write progression.json; the file appears whole or not at all."""
    atomic_write(plan.paths.record, json.dumps(record, indent=1).encode())
