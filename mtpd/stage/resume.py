"""Which checkpoint a stopped run resumes from, and whether its config goes
with it: optimizer and schedules go on as the checkpoint holds them.

``mtpd.progression.stage_sequence`` asks for it at the start of each stage.
``StageCheckpointHook`` records which batch comes next, and the loops start
from that batch.
"""
import glob
import logging
import os
import re
from typing import Any, Callable, Iterable, Mapping

from mmengine.config import Config
from mmengine.logging import print_log

from mtpd.compat.checkpoints import CorruptCheckpoint, read_checkpoint
from mtpd.config_types import dict_of, type_name
from mtpd.plan.errors import PlanError
from mtpd.plan.settings import as_list


_NAME = re.compile(r'epoch_(\d+)(?:_batch_(\d+))?\.pth|iter_(\d+)\.pth')


def position(path: str) -> tuple[int, int, int]:
    """Epochs, batches beyond them, iterations; (-1, 0, 0) for other files."""
    match = _NAME.fullmatch(os.path.basename(path))
    if match is None:
        return -1, 0, 0
    epochs, batches, iterations = (int(n or 0) for n in match.groups())
    return epochs, batches, iterations


def saved_checkpoints(folder: str) -> list[str]:
    """The checkpoints of a run by their names, the newest first."""
    files = glob.glob(os.path.join(glob.escape(folder), '*.pth'))
    checkpoints = [path for path in files if position(path)[0] >= 0]
    return sorted(checkpoints, key=position, reverse=True)


def newest_checkpoint(folder: str,
                      problem_of: Callable[[dict[str, Any]], str | None]
                      = lambda content: None) -> str | None:
    """The newest checkpoint of a run that can be read, None without one.

    The files themselves are looked at: mmengine's ``last_checkpoint`` is
    written in place, after the checkpoint, and may name one that is torn or
    gone. Files that are skipped are logged with the reason.

    Args:
        folder: The run's.
        problem_of: What is wrong with a file's content, None if nothing is.
    """
    # Within each kind the name says which is newer. A folder has both kinds
    # after its checkpoints were counted in another way.
    checkpoints = saved_checkpoints(folder)
    newest = [_first_usable(paths, problem_of) for paths in (
        [path for path in checkpoints if not position(path)[2]],
        [path for path in checkpoints if position(path)[2]])]
    usable = [path for path in newest if path is not None]
    if len(usable) < 2:
        return usable[0] if usable else None
    return max(usable,
               key=lambda path: read_checkpoint(path)['meta'].get('iter', 0))


def _first_usable(paths: Iterable[str],
                  problem_of: Callable[[dict[str, Any]], str | None]
                  ) -> str | None:
    for path in paths:
        try:
            problem = problem_of(read_checkpoint(path))
        except CorruptCheckpoint as error:
            problem = str(error)
        if problem is None:
            return path
        print_log(f'{path} is skipped: {problem}', logger='current',
                  level=logging.WARNING)
    return None


def newest_finite_checkpoint(folder: str) -> str | None:
    """The newest checkpoint whose weights are all finite.

    A step may spoil the weights that the next checkpoint holds before any loss
    shows it. Newer checkpoints than that are renamed to ``*.pth.not_finite``,
    so that no run resumes from them.
    """
    while (path := newest_checkpoint(folder)) is not None:
        weights = read_checkpoint(path)['state_dict'].values()
        if all(w.isfinite().all() for w in weights if w.is_floating_point()):
            return path
        os.replace(path, path + '.not_finite')
    return None


def best_checkpoint(folder: str) -> str | None:
    """The file that mmengine's ``save_best`` keeps, None if there is none."""
    files = glob.glob(os.path.join(glob.escape(folder), 'best_*.pth'))
    return max(files, key=os.path.getmtime) if files else None


def compare_with_checkpoint(cfg: Config, checkpoint: str) -> None:
    """Warn of settings that a resumed run does not take over, and of other
    training images.

    Args:
        cfg: The run's config.
        checkpoint: The one that it resumes from, with the config that it was
            written with; without one, only its length is compared.

    Raises:
        PlanError: The checkpoint's optimizer or schedules cannot be the
            config's, or it was trained for longer than the config says.
    """
    meta = read_checkpoint(checkpoint)['meta']
    refuse_beyond_end(cfg, checkpoint, meta)
    text = meta.get('cfg')
    if not text:
        return
    try:
        before = Config.fromstring(text, '.py')
    except Exception:  # mmengine writes some values, such as inf, as no Python
        return
    problems = _other_kinds(before, cfg)
    if problems:
        raise PlanError([
            f'{problem}, by {checkpoint}, which cannot go on so. Set it as it '
            'was, or choose another work_dir.' for problem in problems])
    for name in _other_values(before, cfg):
        print_log(f'{name} differs from what {checkpoint} was trained with. '
                  'The run goes on with what the checkpoint holds; a new '
                  'value holds for stages that have not begun.',
                  logger='current', level=logging.WARNING)
    name = 'train_dataloader.dataset'
    if _without_modules(dict_of(before, name)) != \
            _without_modules(dict_of(cfg, name)):
        print_log(f'{name} differs from what {checkpoint} was trained with. '
                  'The run goes on with the new one, so that its weights are '
                  'of both. If that is not meant, set it as it was, or choose '
                  'another work_dir.', logger='current',
                  level=logging.WARNING)


def refuse_beyond_end(cfg: Config, checkpoint: str,
                      meta: Mapping[str, Any]) -> None:
    """Such a run would do nothing, and its newest weights would count as those
    after the length that the config has now.

    Args:
        cfg: The run's config.
        checkpoint: The one that it would resume from.
        meta: What that holds of its time.

    Raises:
        PlanError: The checkpoint is of a later time than the run's end.
    """
    train = dict_of(cfg, 'train_cfg')
    unit = 'epoch' if train.get('max_iters') is None else 'iter'
    end, done = train.get(f'max_{unit}s'), meta.get(unit, 0)
    within = meta.get('batch', 0) if unit == 'epoch' else 0
    if end is None or (done, within) <= (end, 0):
        return
    batches = f' and {within} batches' if within else ''
    raise PlanError([
        f'train_cfg.max_{unit}s is {end}, and {checkpoint} was saved after '
        f'{done} {unit}s{batches}. Set it higher; or, to end earlier, move '
        'the newer checkpoints out of that folder.'])


def _other_kinds(before: Config, now: Config) -> list[str]:
    """Settings that decide which numbers a checkpoint holds."""
    old, new = _kinds(before), _kinds(now)
    return [f'{name} is {value!r} and was {old[name]!r}'
            for name, value in new.items() if old[name] != value]


def _kinds(cfg: Config) -> dict[str, Any]:
    wrapper = dict_of(cfg, 'optim_wrapper')
    return {
        'optim_wrapper.optimizer.type': type_name(
            _optimizer(cfg).get('type')),
        'optim_wrapper.paramwise_cfg': wrapper.get('paramwise_cfg'),
        'optim_wrapper.constructor': wrapper.get('constructor'),
        'param_scheduler': [type_name(entry.get('type'))
                            for entry in _schedulers(cfg)]}


def _other_values(before: Config, now: Config) -> list[str]:
    """Names of settings whose values a checkpoint overrules."""
    names = [f'optim_wrapper.optimizer.{key}'
             for key in sorted({*_optimizer(before), *_optimizer(now)})
             if key != 'type'
             and _optimizer(before).get(key) != _optimizer(now).get(key)]
    for index, (old, new) in enumerate(zip(
            _schedulers(before), _schedulers(now), strict=True)):
        if _without_type(old) != _without_type(new):
            names.append(f'param_scheduler[{index}]')
    return names


def _without_modules(part: Any) -> Any:
    """A part of a config with each type by its name alone: a config that was
    read back has names where another has classes."""
    if isinstance(part, Mapping):
        return {key: type_name(value) if key == 'type'
                else _without_modules(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_without_modules(entry) for entry in part]
    return part


def _optimizer(cfg: Config) -> Mapping[str, Any]:
    return dict_of(cfg, 'optim_wrapper.optimizer')


def _schedulers(cfg: Config) -> list[Mapping[str, Any]]:
    return [entry for entry in as_list(cfg.get('param_scheduler'))
            if isinstance(entry, Mapping)]


def _without_type(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != 'type'}
