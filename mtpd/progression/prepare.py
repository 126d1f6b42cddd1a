"""What has to be right before anything runs: processes, plan, files."""
import errno
import os
from contextlib import contextmanager
from typing import Iterator

from mmengine.config import Config
from mmengine.registry import DefaultScope

from mtpd.compat.processes import init_processes
from mtpd.plan.data_check import missing_checkpoints, missing_data
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import Plan, make_plan


class DiskFull(OSError):
    """A checkpoint could not be written; what was written before is whole."""


def prepare(cfg: Config, data_is_checked: bool = False) -> Plan:
    """Set up processes and scope, make the plan and check what it needs.

    Args:
        cfg: The user's config, with ``work_dir`` set.
        data_is_checked: Whether this process has looked for annotations and
            images already.

    Raises:
        PlanError: With everything that is wrong or missing.
    """
    init_processes(cfg)
    set_scope(cfg)
    plan = make_plan(cfg)
    problems = missing_checkpoints(plan)
    if not data_is_checked:
        problems += missing_data(plan)
    problems += unwritable(plan.work_dir) or unwritable(
        plan.paths.order_folder)
    if problems:
        raise PlanError(problems)
    return plan


def set_scope(cfg: Config) -> None:
    """Let mmdet's registries find their parts, also without a Runner."""
    if DefaultScope.get_current_instance() is None:
        DefaultScope.get_instance(
            'mtpd', scope_name=cfg.get('default_scope') or 'mmdet')


def unwritable(folder: str, setting: str = 'work_dir: ',
               instead: str = '--work-dir') -> list[str]:
    """Why nothing can be written to a folder that may not exist yet.

    Args:
        folder: The folder; it is not made, so that a mistake that is found
            later leaves none behind.
        setting: Where it was set, for the message.
        instead: How to set another.
    """
    existing = os.path.abspath(folder)
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if os.path.isdir(existing) and os.access(existing, os.W_OK):
        return []
    reason = 'cannot' if os.path.isdir(existing) else 'is no folder'
    return [f'{setting}{folder} cannot be written, because {existing} '
            f'{reason}. Choose another by {instead}.']


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
            'checkpoint written before is whole. Free some space, then run '
            'the same command with --resume') from error
