"""The control of a progression: the student trained on alone for as long.

From its start to its end a student gains something without any teacher too. A
gain of distillation is the difference to the control.
"""
import copy
import os
import shlex
import shutil
from dataclasses import dataclass
from typing import Mapping

from mmengine.config import Config
from mmengine.logging import print_log

from mtpd.compat.processes import init_processes
from mtpd.config_types import type_name
from mtpd.plan.errors import PlanError
from mtpd.plan.plan import stage_teachers
from mtpd.plan.settings import as_list
from mtpd.plan.work_dir import WorkDir
from mtpd.processes import on_main

from .history import History
from .run import Progression, run_progression
from .stage_sequence import length_of


@dataclass(frozen=True)
class Gain:
    """A progression against its control after the same stages.

    Attributes:
        stage: Both have finished the stages up to this one.
        ap: The progression's student after it, box AP in percent.
        control_ap: The control's.
        last: Whether it is the last stage of the progression.
    """
    stage: int
    ap: float
    control_ap: float
    last: bool

    @property
    def value(self) -> float:
        """The difference, in percent."""
        return self.ap - self.control_ap

    def describe(self) -> str:
        """The difference as a sentence."""
        helped = 'helped' if self.value > 0 else 'did not help'
        if abs(self.value) < 0.05:  # +0.0 in what follows
            helped = 'made no difference'
        verb, until = 'ends', ''
        if not self.last:
            verb, until = 'is', f'after stage {self.stage} '
        return (f'Distillation {helped}: {until}the progression {verb} '
                f'{self.value:+.1f} AP from the student trained on alone for '
                'as long (one seed each; tools/analyze.py tells whether that '
                'is more than noise).')


def gain_of(history: History) -> Gain | None:
    """The gain after the last stage that progression and control have both
    finished; None where there is no such stage."""
    gain = None
    for own, alone in zip(history.stages, history.control.stages,
                          strict=False):
        if own.end_ap is not None and alone.end_ap is not None:
            gain = Gain(own.index, own.end_ap, alone.end_ap,
                        own.index == len(history.order or ()))
    return gain


def describe_gain(history: History) -> str:
    """What distillation has gained, in words; where no control says it, the
    command that runs one, on a line of its own."""
    if not history.plan.distils:
        return ('No teacher took part (mtpd.distill has weight 0), so this '
                'is the student trained on alone.')
    gain = gain_of(history)
    if gain is None and history.finished and len(
            history.control.stages) == len(history.stages):
        return ('Whether distillation helped is not known: the AP of the '
                'progression or of its control could not be measured. Look '
                "at the validations' messages in the log.")
    if gain is not None and gain.last:
        return gain.describe()
    if history.control.problem:
        reason = history.control.problem
    elif history.control.stages:
        reason = 'The control is not finished'
    else:
        reason = 'No control was run'
    known = '' if gain is None else f'{gain.describe()} '
    text = (f'{known}{reason}, so it is not known how much of the final AP '
            'is due to distillation: the student trained on alone for as '
            'long may reach it too.')
    other = other_length(history)
    if other:
        return f'{text} None can be as long: {other}'
    return f'{text} To train it:\n{control_command(history)}'


def other_length(history: History) -> str:
    """Why no student can be trained on alone for as long, with the cure; empty
    if one can."""
    plan = history.plan
    hooks = as_list(plan.student.config.get('custom_hooks'))
    if 'EarlyStoppingHook' in [type_name(hook.get('type')) for hook in hooks
                               if isinstance(hook, Mapping)]:
        return ('custom_hooks has an EarlyStoppingHook, which ends each run '
                'at a time of its own. Take it out, in another work_dir.')
    now = length_of(plan)
    for stage in history.stages:
        if stage.limit not in (None, now):
            return (f'stage {stage.index} was trained with {stage.limit}, and '
                    f'train_cfg now has {now}. Set it as it was, or choose '
                    'another work_dir.')
    return ''


def control_command(history: History) -> str:
    """What to type to train the control of a progression."""
    plan = history.plan
    config = plan.paths.config
    if not os.path.isfile(config):
        config = plan.student.config.filename or 'CONFIG'
    words = ['tools/train.py', config, '--work-dir', plan.work_dir,
             '--control']
    starts = history.record.get('starts') or [{}]
    processes = starts[-1].get('processes') or 1
    if processes > 1:
        return shlex.join(['torchrun', f'--nproc_per_node={processes}',
                           *words, '--launcher', 'pytorch'])
    return shlex.join(['python', *words])


def control_config(cfg: Config, history: History,
                   scratch: bool = False) -> Config:
    """The config of the control: the same stages with distillation weight 0,
    in ``alone`` in the work dir.

    Args:
        cfg: The progression's config, with ``work_dir`` set.
        history: What its work dir holds.
        scratch: Whether it starts from the weights that the model begins
            with, random ones or those of its ``init_cfg``, and not from the
            student's checkpoint; in ``scratch`` in the work dir.

    Raises:
        PlanError: The order, and so the number of stages, is not known yet,
            or no control can be as long.
    """
    plan = history.plan
    other = other_length(history)
    if other:
        raise PlanError([f'No control can be as long: {other}'])
    if history.order is None:
        raise PlanError([
            'The control has as many stages as the progression, and '
            f'{plan.work_dir} holds no order yet. Find it first with '
            'tools/train.py or tools/bgs_order.py, and the same config and '
            '--work-dir.'])
    cfg = copy.deepcopy(cfg)
    cfg.mtpd.order = [stage_teachers(label, plan) for label in history.order]
    cfg.mtpd.max_teachers = None
    cfg.mtpd.distill = {**plan.distill, 'loss_weight': 0}
    cfg.mtpd.pop('unlabelled', None)  # nothing is learned without a teacher
    cfg.mtpd.pop('costs', None)  # the order is known
    cfg.work_dir = plan.paths.baseline
    if scratch:
        cfg.work_dir, cfg.load_from = plan.paths.scratch, None
        cfg.mtpd.student = dict(checkpoint=None)
        cfg.mtpd.pop('inherit', None)
    return cfg


def run_control(cfg: Config, history: History, data_is_checked: bool = False,
                scratch: bool = False) -> Progression:
    """Train the control, or what is missing of it.

    Args:
        cfg: See :func:`control_config`.
        history: The same, and so is ``scratch``.
        data_is_checked: See ``prepare``.

    Raises:
        PlanError: See :func:`control_config`.
    """
    control = control_config(cfg, history, scratch)
    init_processes(control)
    on_main(lambda: _share_seed(history, control.work_dir))
    start = ' from its first weights' if scratch else ' on alone'
    print_log(f'The control: the student trained{start}, in the same '
              'stages with distillation weight 0.', logger='current')
    return run_progression(control, resume=True, with_probe=False,
                           data_is_checked=data_is_checked)


def _share_seed(history: History, work_dir: str) -> None:
    """A seed that was drawn for the progression is the control's too, unless
    the control has one already."""
    drawn = history.plan.paths.seed
    own = WorkDir(work_dir).seed
    if os.path.isfile(drawn) and not os.path.isfile(own):
        os.makedirs(os.path.dirname(own), exist_ok=True)
        shutil.copyfile(drawn, own)
