"""Files that a config names: beside the config, or in the working folder."""
import os
import re
from dataclasses import replace
from typing import Any, Iterable, Mapping

from mmengine.config import Config

from mtpd.config_types import SCOPE

from .detectors import DetectorSpec, is_url, load_config
from .errors import PlanError
from .settings import UnlabelledSettings


def find_file(path: str, config: str | None) -> str:
    """Where a file or folder of a config lies.

    A relative path is looked up in the config's folder, as ``_base_`` is, then
    in the working folder. What is in neither, a URL and a config of a package
    (``mmdet::family/x.py``) are returned as they are.

    Args:
        path: As in the config.
        config: The file of the config; None if it has none.
    """
    if is_url(path) or '::' in path:
        return path
    path = os.path.expanduser(path)
    beside = os.path.join(_folder_of(config), path)
    return beside if config and os.path.exists(beside) else path


def with_found_paths(settings: Mapping[str, Any],
                     config: str | None) -> dict[str, Any]:
    """Settings, in which ``mtpd.unlabelled`` names its folder and file where
    they are.

    Args:
        settings: Of ``mtpd``, as they were read.
        config: The config's file; None if it has none.
    """
    unlabelled = settings.get('unlabelled')
    if unlabelled is None:
        return dict(settings)
    found = {key: find_file(path, config)
             for key, path in paths_in(unlabelled).items()}
    return {**settings, 'unlabelled': replace(unlabelled, **found)}


def paths_in(settings: UnlabelledSettings | None) -> dict[str, str]:
    """The paths that ``mtpd.unlabelled`` sets, by the setting."""
    paths = {key: getattr(settings, key, None)
             for key in ('folder', 'ann_file')}
    return {key: path for key, path in paths.items() if path}


def looked_in(path: str, config: str | None) -> str:
    """The folders in which :func:`find_file` looks, in words: ``in A, the
    folder of the config, or in B, the working folder``; empty for an absolute
    path, which says it by itself.

    Args:
        path: As in the config.
        config: As in :func:`find_file`.
    """
    if os.path.isabs(os.path.expanduser(path)):
        return ''
    beside, here = os.path.abspath(_folder_of(config)), os.getcwd()
    if not config or beside == here:
        return f' in {here}, the working folder'
    return f' in {beside}, the folder of the config, or in {here}, the ' \
        'working folder'


def with_working_folder(problems: Iterable[str],
                        paths: Iterable[str]) -> list[str]:
    """Messages, of which those that name a relative path say where it starts.

    Args:
        problems: The messages.
        paths: What they may name; absolute paths and URLs need no word.
    """
    relative = '|'.join(re.escape(path) for path in {*paths}
                        if is_relative(path))
    if not relative:
        return list(problems)
    pattern = re.compile(rf"(?<![^\s'\"(])(?:{relative})")
    where = f' Relative paths start from {os.getcwd()}, the working folder.'
    return [problem + where * bool(pattern.search(problem))
            for problem in problems]


def is_relative(path: str) -> bool:
    """Whether a path means a file by where a command is run."""
    return bool(path) and not is_url(path) and not os.path.isabs(path)


def _folder_of(config: str | None) -> str:
    return os.path.dirname(os.path.expanduser(config or ''))


def read_detector(
        name: str, values: Mapping[str, Any], filename: str | None
        ) -> tuple[DetectorSpec | None, list[str]]:
    """A trained detector, or None and what is wrong with its config.

    Args:
        name: As in :class:`DetectorSpec`.
        values: Its settings, ``config`` and ``checkpoint`` among them.
        filename: The file of the config that names it.
    """
    values, field = dict(values), DetectorSpec(name, Config(), None).field
    given = values.pop('config')
    path = find_file(given, filename)
    try:
        config = load_config(path)
        config.default_scope = config.get('default_scope') or SCOPE
        if not config.get('model'):
            return None, [f'{field}.config: {path} has no model. Name the '
                          'config of a detector.']
        weights = find_file(values.pop('checkpoint'), filename)
        return DetectorSpec(name, config, weights, **values), []
    except OSError as error:
        reason = str(error)
        if '::' not in path and not os.path.exists(path):
            reason = f'there is no such file{looked_in(path, filename)}'
        return None, [f'{field}.config: {given} cannot be read ({reason}). '
                      'Name a file, or mmdet::family/name.py for one of '
                      "mmdet's own."]
    except PlanError as error:
        return None, [f'{field}.config: {text}' for text in error.problems]
