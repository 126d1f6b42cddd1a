"""Errors of libraries in words for who runs a command."""
import errno
import re
from contextlib import suppress
from typing import Any, Callable, Iterator, Mapping

import mmdet.registry
import mmengine.registry
import torch
from mmengine.config import Config
from mmengine.registry import Registry
from torch.utils.data import DataLoader

from mtpd.compat.samples import sample_of
from mtpd.config_types import type_name
from mtpd.plan.detectors import load_config
from mtpd.plan.errors import PlanError, did_you_mean

Explanation = Callable[[BaseException, Config | None], str | None]
"""What an error and the user's config say together; None for nothing."""

_OS_CURES = {
    errno.ENOSPC: 'Free some space, or choose another folder.',
    errno.EDQUOT: 'Free some space, or choose another folder.',
    errno.EROFS: 'Choose a folder that can be written to.',
    errno.EACCES: 'Change its permissions, or name another.',
    errno.EPERM: 'Change its permissions, or name another.',
    errno.EISDIR: 'This is a folder; name a file.',
    errno.ENOTDIR: 'A part of this path is a file; name a folder.',
    errno.EMFILE: 'Raise the limit (ulimit -n), or use fewer workers '
                  '(num_workers of the dataloaders).',
    errno.ENOMEM: 'Use fewer workers (num_workers of the dataloaders), or a '
                  'smaller batch.'}

_LESS_MEMORY = (
    'Reduce train_dataloader.batch_size (with --auto-scale-lr), train with '
    '--amp, or set mtpd.fast_teacher=dict(precision=...).')

# Type of the error, what its text has, and what that means: {0} is the error
# in one line, {1} what the pattern's bracket matches.
_BY_TEXT: tuple[tuple[type[BaseException], str, str], ...] = (
    (torch.OutOfMemoryError, '()',
     f'The memory of the GPU is full. {_LESS_MEMORY} PyTorch: {{0}}'),
    (MemoryError, '()', "The computer's memory is full. " + _LESS_MEMORY),
    (RuntimeError, "(can't allocate memory)",
     f"The computer's memory is full. {_LESS_MEMORY} {{0}}"),
    (RuntimeError, r'DataLoader worker .*killed by signal: (Bus error)',
     'A worker of a dataloader ran out of shared memory. Set num_workers=0, '
     'or give the machine or container more (docker run --shm-size=8g).'),
    (RuntimeError, r'DataLoader worker .*killed by signal: (\w+)',
     'A worker of a dataloader was ended by the signal {1}, most often '
     'because the memory was full. Use fewer workers (num_workers) or a '
     'smaller batch.'),
    (KeyError, r"^'?((?:LOCAL_)?RANK|WORLD_SIZE|SLURM_\w+|OMPI_\w+)'?$",
     'The variable {1} is not set, which --launcher needs. Start the command '
     'by torchrun (--launcher pytorch), srun or mpirun, or leave --launcher '
     'out for one process.'),
    (Exception, '(EADDRINUSE)', 'The port of the job is in use. Set the '
     'variable MASTER_PORT to another one. {0}'),
    (AttributeError, r"ConfigDict'? object has no attribute '(\w+)'",
     'The config, or a dict in it, has no key {1!r}, which is needed. Add it, '
     'as in the configs of mmdet.'),
    (ImportError, '(pip install sklearn)',
     "mmdet's PAAHead needs the package scikit-learn, which is not installed. "
     'Install it: pip install scikit-learn. (sklearn, which mmdet says, is '
     'not its name there.)'),
    (Exception, "'InstanceData' object has no attribute '(masks)'",
     'The student has a mask head, and its training pipeline loads no masks. '
     'Set with_mask=True in LoadAnnotations of train_dataloader, or choose a '
     'student without masks.'))

_LOST = re.compile('onnection (closed|reset) by (peer|remote)|'
                   'onnection was (closed|reset)|roken pipe|'
                   'remote process exited')


def in_words(error: BaseException, config: Config | None) -> str | None:
    """What happened and what to do; None for an error that is not known to
    be the user's to mend.

    Args:
        error: Any; what it was raised from is looked at, too.
        config: The user's config, if it has been read.
    """
    for cause in with_causes(error):
        for explain in _EXPLANATIONS:
            text = explain(cause, config)
            if text:
                return text
    return None


def with_causes(error: BaseException) -> list[BaseException]:
    """An error, and what it was raised from or during, the latest first."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return seen


def summary(error: BaseException) -> str:
    """An error in one line, such as ``ValueError: what it says``.

    The error of a loader's worker holds a whole traceback, of which this is
    the last line.
    """
    text = str(error).strip()
    _, worker, inner = text.partition('Original Traceback')
    raised = re.findall(r'^(\w[\w.]*(?:: .*)?)$', inner, re.MULTILINE)
    if worker and raised:
        return raised[-1]
    return ': '.join([type(error).__name__, *text.splitlines()[:1]])


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error only says that another process of the job is gone."""
    return isinstance(error, RuntimeError) and bool(_LOST.search(str(error)))


def by_image(error: BaseException, config: Config | None) -> str | None:
    """An image that a step of a pipeline cannot use."""
    sample = sample_of(error)
    if sample is None:
        return None
    cure = "Check this step's settings, and the image's size and annotations."
    if "'mask'" in summary(error):
        cure = ('Its annotations have no mask. Add the masks, or take '
                'with_mask=True out of this step and a detector without '
                'masks.')
    elif sample.step.startswith('Load'):
        cure = ('Replace the file if it is torn or no image; or take it out '
                'of the annotations.')
    return (f'The image {sample.image} cannot be used: the step {sample.step} '
            f'of the pipeline ends with {summary(error)}. {cure}')


def by_text(error: BaseException, config: Config | None) -> str | None:
    """An error that is known by its type and its text."""
    for kind, pattern, words in _BY_TEXT:
        match = re.search(pattern, str(error))
        if match and isinstance(error, kind):
            return words.format(summary(error), *match.groups())
    return None


def by_registry(error: BaseException, config: Config | None) -> str | None:
    """A type that no registry has."""
    match = re.search(r'([^\s\'"]+) is not in the \S+::(.+?) registry',
                      summary(error))
    if match is None or not isinstance(error, KeyError):
        return None
    name, kind = match.groups()
    fields = ' and '.join(parts_with_type(config, name))
    close = did_you_mean(name, registered_names(kind), quote=True)
    return (f'The type {name!r}{" of " * bool(fields)}{fields} is no '
            f'registered {kind}{close.partition(" Known: ")[0]} A class of '
            'your own has to be imported: name its module in custom_imports.')


def by_loader(error: BaseException, config: Config | None) -> str | None:
    """A dataloader that PyTorch does not make."""
    made = [values['self'] for values in _calls_of('__init__', error)]
    if not made or not isinstance(made[-1], DataLoader):
        return None
    return (f'A dataloader cannot be made: {summary(error)}. Check '
            'num_workers, persistent_workers, prefetch_factor, timeout and '
            'batch_size of train_dataloader and val_dataloader.')


def by_settings(error: BaseException, config: Config | None) -> str | None:
    """A class that the config names and that does not take its settings."""
    calls = [call for call in _calls_of('build_from_cfg', error)
             if isinstance(call.get('obj_cls'), type)]
    if not calls:
        return None
    name = calls[-1]['obj_cls'].__name__
    settings = {*calls[-1]['args'], 'type', '_scope_'}
    fields = [field for field, part in parts_with_type(config, name).items()
              if settings.issuperset(part)]
    return (f'{" and ".join(fields)}: {name} cannot be made with these '
            f'settings: {summary(error)}. Correct or remove the setting.'
            ) if fields else None


def by_import(error: BaseException, config: Config | None) -> str | None:
    """A package or file that is not there."""
    if not isinstance(error, ImportError):
        return None
    return (f'{summary(error)}. Install the package, take out of the config '
            'what needs it, or, if it is your own file, run the command in '
            'its folder.')


def by_system(error: BaseException, config: Config | None) -> str | None:
    """What the operating system or the network refuses."""
    if not isinstance(error, OSError):
        return None
    if error.errno is None:
        return summary(error)
    path = error.filename2 or error.filename or ''
    cure = _OS_CURES.get(error.errno, '')
    return f'{type(error).__name__}: {path}: {error.strerror}. {cure}'.replace(
        ': :', ':').rstrip()


_EXPLANATIONS: tuple[Explanation, ...] = (
    by_image, by_text, by_registry, by_loader, by_settings, by_import,
    by_system)


def registered_names(kind: str) -> list[str]:
    """The names in all registries of a kind, such as 'hook'."""
    names: list[str] = []
    for registry in (*vars(mmdet.registry).values(),
                     *vars(mmengine.registry).values()):
        if isinstance(registry, Registry) and registry.name == kind:
            names += registry.module_dict
    return names


def _calls_of(function: str, error: BaseException) -> list[dict[str, Any]]:
    """The variables of each call of a function that an error went through,
    the outer ones first."""
    calls, traceback = [], error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_name == function:
            calls.append(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next
    return calls


def parts_with_type(config: Config | None, name: str) -> dict[str, Any]:
    """The dicts with a type, by their fields, in the user's config and in
    those of the teachers."""
    parts = list(parts_of(config._cfg_dict if config else None))
    for field, part in list(parts):
        if field.startswith('mtpd.teachers.') and 'config' in part:
            with suppress(OSError, PlanError):
                parts += [(f'{field}.config: {inner}', found) for inner, found
                          in parts_of(load_config(part['config'])._cfg_dict)]
    return {field: part for field, part in parts
            if type_name(part.get('type')) == name}


def parts_of(value: Any, field: str = '') -> Iterator[tuple[str, Mapping]]:
    """All dicts of a config, each with its field, the outer ones first."""
    if isinstance(value, Mapping):
        yield field, value
    elif isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    else:
        return
    for key, entry in value.items():
        yield from parts_of(entry, f'{field}.{key}'.removeprefix('.'))
