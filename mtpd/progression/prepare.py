"""What has to be right before anything runs: processes, plan, files."""
import errno
import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Iterator, Sequence

from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from mtpd.backbones import starts_from_file
from mtpd.compat.processes import init_processes
from mtpd.compat.checkpoints import download_path
from mtpd.distill.hooks.checkpoint import OtherTeacher
from mtpd.flags import unwritable
from mtpd.plan.data_check import missing_checkpoints, student_data
from mtpd.plan.detectors import SOURCE, DetectorSpec, is_url
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import Plan, draft_plan
from mtpd.plan.pool import examine_pool
from mtpd.plan.registered import part_problems
from mtpd.plan.start_check import (amp_problems, mechanism_problems,
                                   plan_notes,
                                   training_problems)
from mtpd.stage.preemption import HOW_TO_RESUME

from .record import is_started, other_progression
from .start import (inherit_problems, is_sliced, slice_notes,
                    slice_student, write_slice)


class DiskFull(OSError):
    """A checkpoint could not be written; what was written before is whole."""


@dataclass(frozen=True)
class Checked:
    """A config after everything in it was looked at.

    Attributes:
        plan: The progression; where ``of_settings`` is not empty, a draft.
        pool: The detectors that can be built, the student first.
        of_settings: What is wrong with the settings.
        others: Everything else that is wrong or missing.
        notes: What would stop nothing and is hardly meant.
        other: That the work dir holds another progression, in words; empty if
            it does not.
    """
    plan: Plan
    pool: dict[str, BaseDetector]
    of_settings: list[str]
    others: list[str]
    notes: list[str]
    other: str = ''

    @property
    def problems(self) -> list[str]:
        """Everything that is wrong or missing, once each."""
        return list(dict.fromkeys(filter(None, (
            *self.of_settings, *self.others, self.other))))


def prepare(cfg: Config, data_is_checked: bool = False, resume: bool = True,
            trains: bool = True) -> tuple[Plan, dict[str, BaseDetector]]:
    """Set up processes, make the plan, check what it needs, and build the
    student and its teachers.

    Args:
        cfg: The user's config, with ``work_dir`` set.
        data_is_checked: Whether this process has looked for annotations and
            images already.
        resume: Whether the work dir may hold a progression.
        trains: Whether stages are trained, and not only an order searched.

    Returns:
        The plan and, by name, the detectors, see ``build_pool``.

    Raises:
        PlanError: With everything that is wrong or missing.
        OtherTeacher: ``resume``, and nothing is wrong but that the work dir
            holds another progression.
    """
    init_processes(cfg)
    checked = check(cfg, data_is_checked, resume, trains)
    problems = list(checked.problems)
    if trains:
        problems += amp_problems(cfg)
    if resume and problems == [checked.other]:
        raise OtherTeacher(checked.other)
    if problems:
        raise PlanError(problems)
    if not data_is_checked:  # or they were told with the data's problems
        log_notes(checked.notes)
    write_slice(checked.plan, checked.pool)
    return checked.plan, checked.pool


def log_notes(notes: Sequence[str]) -> None:
    """Say in the log what is hardly meant."""
    for note in notes:
        print_log(note, logger='current', level=logging.WARNING)


def check(cfg: Config, data_is_checked: bool = False, resume: bool = True,
          trains: bool = True, fetches: bool = True,
          is_pretrained: bool = True) -> Checked:
    """Look at everything in a config that can be known without training.

    One mistake does not hide another: a detector whose checkpoint is missing
    is built with any weights, and a wrong setting has its default meanwhile.

    Args:
        cfg: As in :func:`prepare`, and so are the next three.
        fetches: Whether checkpoints are downloaded. If not, those that are
            URLs and no earlier run has fetched are not looked into.
        is_pretrained: Whether checkpoints have to exist.
    """
    set_scope(cfg)
    plan, of_settings = draft_plan(cfg)
    others = missing_checkpoints(plan) if is_pretrained else []
    of_mechanism = mechanism_problems(plan.distill)
    if of_mechanism:  # levels and classes are compared all the same
        of_settings += of_mechanism
        plan = replace(plan, distill=dict(type='FeatureL2Loss'))
    others += part_problems(plan.student.config) if trains else []
    of_data, batches, notes = student_data(plan, trains, data_is_checked)
    unread = unread_checkpoints(plan, fetches)
    pool, of_pool = examine_pool(plan, unread)
    of_pool += slice_student(plan, pool, SOURCE not in unread)
    others += of_data + of_pool + inherit_problems(plan, pool)
    if trains:
        others += training_problems(plan, pool.get('student'))
    others += unwritable(plan.work_dir) or unwritable(plan.paths.order_folder)
    if not trains:
        return Checked(plan, pool, of_settings, others, [])
    # Of a draft it would differ in any case.
    other = '' if of_settings else other_progression(
        plan, unread_checkpoints(plan, fetches=False),
        () if is_pretrained else unread_checkpoints(plan, fetches=True))
    if not resume and not other and is_started(plan):
        others.append(f'{plan.work_dir} holds a progression already. Add '
                      '--resume to continue it, or choose another '
                      '--work-dir.')
    return Checked(plan, pool, of_settings, others,
                   notes + plan_notes(plan, pool, batches)
                   + slice_notes(plan, pool), other)


def unread_checkpoints(plan: Plan, fetches: bool) -> list[str]:
    """The detectors whose checkpoints are not there, or would be fetched.

    Args:
        plan: The progression.
        fetches: Whether checkpoints are downloaded.
    """
    names = []
    specs = [plan.specs[name] for name in plan.used]
    source = plan.student.sliced_from
    if source is None or is_sliced(plan):
        specs.append(plan.student)
    else:
        names.append('student')
        specs.append(source)
    return names + [spec.name for spec in specs if _is_unread(spec, fetches)]


def _is_unread(spec: DetectorSpec, fetches: bool) -> bool:
    path = spec.checkpoint
    if path is None:
        # Its own initialisation may fetch a backbone's weights.
        return not fetches and not starts_from_file(spec.model)
    if is_url(path):
        return not fetches and not os.path.isfile(download_path(path))
    return not os.path.isfile(path)


def set_scope(cfg: Config) -> None:
    """Let mmdet's registries find their parts, also without a Runner."""
    if DefaultScope.get_current_instance() is None:
        DefaultScope.get_instance(
            'mtpd', scope_name=cfg.get('default_scope') or 'mmdet')


@contextmanager
def full_disks_named(work_dir: str) -> Iterator[None]:
    """Within the block, a full or read-only disk raises :class:`DiskFull`.

    Args:
        work_dir: Where the block writes.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS,
                               errno.EFBIG):
            raise
        raise DiskFull(
            error.errno,
            f'Writing to {work_dir} failed: {error.strerror}. Every '
            'checkpoint written before is whole. Free some space. '
            f'{HOW_TO_RESUME}') from error
