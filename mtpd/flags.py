"""The flags that the tools share, and what can be said before any import.

This file imports nothing of the package, so that a tool can load it alone:
``import mtpd`` takes ten seconds of processor time.
"""
import argparse
import difflib
import os
import re
import sys
from contextlib import suppress
from typing import Any, Callable


def parser(description: str,
           config_needed: bool = True) -> argparse.ArgumentParser:
    """A parser with the flags of mmdet's ``tools/train.py`` that every tool
    takes.

    Args:
        description: The tool's help.
        config_needed: Whether the tool always needs a config.
    """
    flags = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument('config', nargs=None if config_needed else '?',
                       help='config file, or mmdet::family/name.py')
    flags.add_argument('--work-dir', type=os.path.expanduser,
                       help='where results are written; '
                       'work_dirs/<name of the config> unless set here or in '
                       'the config')
    flags.add_argument(
        '--cfg-options', nargs='+', action=options_action(),
        metavar='KEY=VALUE',
        help='override fields of the config, such as mtpd.max_teachers=1 or '
        'mtpd.order=swin_t,swin_s')
    flags.add_argument('--launcher', default='none',
                       choices=['none', 'pytorch', 'slurm', 'mpi'])
    flags.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return flags


def options_action() -> type[argparse.Action]:
    """mmengine's action for ``KEY=VALUE``, which keeps the spaces of a text
    and says what is no ``KEY=VALUE``."""
    # Half a second, which tools without these flags need not wait.
    from mmengine.config import DictAction

    class OptionsAction(DictAction):
        def __call__(self, parser: argparse.ArgumentParser,
                     namespace: argparse.Namespace, values: Any,
                     _option: str | None = None) -> None:
            # A copy: argparse gives the same default to every parse.
            options = dict(getattr(namespace, self.dest, None) or {})
            for given in values:
                key, separator, text = given.partition('=')
                if not separator or not all(key.strip().split('.')):
                    raise argparse.ArgumentError(
                        self, f'{given!r} is no KEY=VALUE. Name the config '
                        "before --cfg-options, write no spaces around '=', "
                        'and quote an option whose value has spaces.')
                try:
                    options[key.strip()] = option_value(
                        text, DictAction._parse_iterable)
                except AssertionError as error:
                    raise argparse.ArgumentError(
                        self, f'{given}: {error}.') from error
            setattr(namespace, self.dest, options)

    return OptionsAction


def option_value(text: str, parse: Callable[[str], Any]) -> Any:
    """A value of the command line, with the spaces within its texts.

    Args:
        text: Such as ``my weights/a.pth`` or ``[(1, 2), b c]``.
        parse: mmengine's parser, which takes all spaces out.
    """
    text = text.strip().strip('\'"')
    if ',' in text or text[:1] in ('(', '['):
        text = re.sub(r' *([,()\[\]]) *', r'\1', text)
    return _with_spaces(parse(text.replace(' ', _SPACE)))


_SPACE = '\ue000'  # of Unicode's private characters


def _with_spaces(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_with_spaces, value))
    return value.replace(_SPACE, ' ') if isinstance(value, str) else value


def add_training_flags(flags: argparse.ArgumentParser) -> None:
    """``--resume``, ``--amp``, ``--auto-scale-lr`` as mmdet has them."""
    flags.add_argument('--amp', action='store_true',
                       help='train in automatic mixed precision')
    flags.add_argument('--auto-scale-lr', action='store_true',
                       help='scale the learning rate with the batch size')
    flags.add_argument('--resume', nargs='?', const='auto', metavar='FILE',
                       help='continue with what the work dir holds (a '
                       'progression finds stage and epoch by itself; a plain '
                       'config also takes a checkpoint)')


_NOT_CONFIGS = ('.pth', '.pt', '.onnx', '.xz')
"""Endings of weights, which are easily named in a config's place."""


def missing_config(path: str | None, setting: str = '') -> str:
    """That a config file is not there, or holds weights, in words; empty if
    it is there, or a package's.

    Args:
        path: As on the command line; None for a flag that was not given.
        setting: The flag that it was given by.
    """
    if path is None or '::' in path:
        return ''
    there = os.path.expanduser(path)
    if there.endswith(_NOT_CONFIGS):
        return _named(setting, f'{path} has the ending of weights, and a '
                      'config is expected here.')
    if os.path.isfile(there):
        return ''
    if os.path.isdir(there):
        return _named(setting, f'{path} is a folder. Name a config file in '
                      'it.')
    return _named(setting, _not_there(
        path, 'config', 'Correct the path, or name a config of mmdet as '
        'mmdet::family/name.py.'))


def missing_file(path: str | None, setting: str = '',
                 or_folder: bool = False) -> str:
    """That a file is not there, in words; empty if it is there, or somewhere
    else (``https://...``, ``torchvision://...``, ``mmdet::...``).

    Args:
        path: As on the command line; None for a flag that was not given.
        setting: The flag that it was given by.
        or_folder: Whether a folder may be named instead.
    """
    if path is None or '://' in path or '::' in path:
        return ''
    there = os.path.expanduser(path)
    if os.path.isdir(there):
        return '' if or_folder else _named(
            setting, f'{path} is a folder. Name a file in it.')
    if os.path.exists(there):
        return ''
    return _named(setting, _not_there(
        path, 'file or folder' if or_folder else 'file', 'Correct the path.'))


def missing_work_dir(path: str | None, setting: str = '') -> str:
    """That the folder of a progression is not there, in words; empty if it
    is.

    Args:
        path: As on the command line; None for a flag that was not given.
        setting: The flag that it was given by.
    """
    if path is None or os.path.isdir(path):
        return ''
    instead = 'Name the work dir of a progression, which tools/train.py ' \
        'writes.'
    if os.path.exists(path):
        return _named(setting, f'{path} is a file. {instead}')
    return _named(setting, _not_there(path, 'folder', instead))


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


def unwritable_file(path: str | None, setting: str) -> list[str]:
    """As :func:`unwritable`, of a file.

    Args:
        path: As on the command line; None for a flag that was not given. Its
            folder may not exist yet.
        setting: The flag that it was given by.
    """
    if path is None:
        return []
    if os.path.isdir(path):
        return [f'{setting} {path} is a folder. Name a file.']
    return unwritable(os.path.dirname(path) or '.', f'{setting} ', setting)


def stop_if(*problems: str) -> None:
    """End the process with these messages and exit code 1.

    Args:
        problems: Those that are empty do not count.
    """
    said = [problem for problem in dict.fromkeys(problems) if problem]
    if said:
        sys.exit('\n'.join(said))


def _named(setting: str, problem: str) -> str:
    return f'{setting}: {problem}' if setting else problem


def _not_there(path: str, kind: str, instead: str) -> str:
    """In which folder a path was looked for, and a near name."""
    if os.path.islink(os.path.expanduser(path)):
        target = os.readlink(os.path.expanduser(path))
        return f'{path} is a link to {target}, which is not there. {instead}'
    folder, name = os.path.split(path.rstrip('/') or path)
    searched = os.path.expanduser(folder) or '.'
    if not os.path.isdir(searched):
        where = '' if os.path.isabs(searched) else f' in {os.getcwd()}'
        return f'There is no {kind} {path}: there is no folder ' \
            f'{folder}{where}.'
    close: list[str] = []
    with suppress(OSError):  # a folder that may not be read
        close = difflib.get_close_matches(name, os.listdir(searched), 1)
    hint = f'Did you mean {os.path.join(folder, close[0])}?' if close \
        else instead
    return f'There is no {kind} {name} in {os.path.abspath(searched)}. {hint}'
