"""The flags that the tools share, and what can be said before any import.

This file imports nothing of the package, so that a tool can load it alone:
``import mtpd`` takes ten seconds of processor time.
"""
import argparse
import difflib
import os

from mmengine.config import DictAction


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
    flags.add_argument('--work-dir', help='where results are written; '
                       'work_dirs/<name of the config> unless set here or in '
                       'the config')
    flags.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='override fields of the config, such as mtpd.max_teachers=1 or '
        'mtpd.order=swin_t,swin_s')
    flags.add_argument('--launcher', default='none',
                       choices=['none', 'pytorch', 'slurm', 'mpi'])
    flags.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return flags


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


def missing_config(path: str) -> str:
    """That a config file is not there, in words; empty if it is there, or a
    package's.

    Args:
        path: As on the command line.
    """
    if '::' in path or os.path.isfile(path):
        return ''
    if os.path.isdir(path):
        return f'{path} is a folder. Name a config file in it.'
    folder, name = os.path.split(path)
    searched = folder or '.'
    if not os.path.isdir(searched):
        return (f'There is no config {path}: there is no folder {folder} in '
                f'{os.getcwd()}.' if not os.path.isabs(path) else
                f'There is no config {path}: there is no folder {folder}.')
    close = difflib.get_close_matches(name, os.listdir(searched), 1)
    where = os.path.abspath(searched)
    hint = f' Did you mean {os.path.join(folder, close[0])}?' if close else \
        ' Correct the path, or name a config of mmdet as ' \
        'mmdet::family/name.py.'
    return f'There is no config {name} in {where}.{hint}'
