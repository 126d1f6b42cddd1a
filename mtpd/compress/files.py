"""The files of a smaller detector: its config, its first weights and the
progression that trains it."""
import io
import os
import shlex
from contextlib import ExitStack
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.config import Config

from mtpd.compat.atomic_files import atomic_file
from mtpd.compat.config_text import pretty_text
from mtpd.compat.state_dicts import each_once
from mtpd.config_types import dict_of, imported_modules
from mtpd.distill.losses.mechanism import RECOMMENDED
from mtpd.plan.detectors import is_url, read_file
from mtpd.plan.errors import PlanError
from mtpd.provenance import as_plain

from .errors import CannotSlice

ORIGINAL = 'original'
"""The name of the detector that was sliced among its slice's teachers."""
SHARE = 1.
"""Of distillation's gradient where a slice is taught: 4 ended 1 AP lower
(docs/compress.md); smaller ones were not tried."""
SLICED = 'with fewer channels. The most important ones are'
"""What a slice's config says of itself, before the file of its weights."""


class Teacher(NamedTuple):
    """A teacher besides the original.

    Attributes:
        config: File, or ``mmdet::family/name.py``.
        checkpoint: File or URL.
        ap: Box AP in percent; None to have it measured.
    """
    config: str
    checkpoint: str
    ap: float | None = None


class Files(NamedTuple):
    """Paths of what is written.

    Attributes:
        config: The smaller detector, an ordinary mmdet config.
        weights: Its first weights, a plain checkpoint.
        progression: The config that trains it, taught by the original.
    """
    config: str
    weights: str
    progression: str


def files_of(config: str, folder: str, width: float,
             depth: int | None = None) -> Files:
    """Where the slice of a config is written: ``my_half.py`` for half of the
    width of ``my.py``, ``my_w75.py`` for 75%, ``my_d18_half.py`` with another
    depth.

    Args:
        config: The config of the original.
        folder: Of the new files.
        width: Share of the channels.
        depth: Layers of the new backbone; None for those of the original.
    """
    parts = [] if depth is None else [f'd{depth}']
    if width == 0.5:
        parts.append('half')
    elif width < 1 or depth is None:
        parts.append(f'w{100 * width:g}'.replace('.', '_'))
    return named_files(config, folder, '_'.join(parts))


def named_files(config: str, folder: str, name: str) -> Files:
    """Where what was made of a config is written: ``my_NAME.py``,
    ``my_NAME_start.pth`` and ``my_NAME_mtpd.py`` for ``my.py``.

    Args:
        config: The config of the original.
        folder: Of the new files.
        name: Of what was made.
    """
    stem = os.path.splitext(os.path.basename(config.rpartition('::')[2]))[0]
    path = os.path.join(folder, f'{stem}_{name}')
    return Files(f'{path}.py', f'{path}_start.pth', f'{path}_mtpd.py')


def write_files(files: Files, cfg: Config, model: Mapping[str, Any],
                detector: BaseDetector, teachers: Mapping[str, Teacher],
                about: str = SLICED, imports: Sequence[str] = ()) -> None:
    """Write all files, or none.

    Args:
        files: Where to.
        cfg: The config of the original, with its file name.
        model: The ``model`` part of the smaller one.
        detector: The smaller one, with its first weights.
        teachers: The original first, and the pool.
        about: What is said of the config, after the original's name and
            before the file of its weights.
        imports: Modules that the model needs besides the original's.

    Raises:
        OSError: They cannot be written; then there is none of them.
    """
    write_together({
        files.config: config_text(files, cfg, model, about, imports).encode(),
        files.weights: saved(detector),
        files.progression: progression_text(files, cfg, teachers).encode()})


def write_together(contents: Mapping[str, bytes]) -> None:
    """Write all files, or none.

    Args:
        contents: Path -> what is written. Configs are read back.

    Raises:
        CannotSlice: A config cannot be read; then there is none of the files.
        OSError: They cannot be written; then there is none of them.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(atomic_file(path)) for path in contents]
        for file, content in zip(opened, contents.values(), strict=True):
            file.write(content)
    try:
        for path in contents:
            if path.endswith('.py'):
                read_file(path)
    except PlanError as error:
        for path in contents:
            os.remove(path)
        raise CannotSlice([f'What was written is removed again: {text}'
                           for text in error.problems]) from error


def saved(detector: BaseDetector) -> bytes:
    """The file of :func:`plain_checkpoint`."""
    buffer = io.BytesIO()
    torch.save(plain_checkpoint(detector), buffer)
    return buffer.getvalue()


def plain_checkpoint(detector: BaseDetector) -> dict[str, Any]:
    """A detector's weights and classes as mmdet reads them from a file."""
    return dict(
        meta=dict(dataset_meta=as_plain(
            getattr(detector, 'dataset_meta', None) or {})),
        state_dict=each_once(detector.state_dict(),
                             lambda value: value.cpu().clone()))


def config_text(files: Files, cfg: Config, model: Mapping[str, Any],
                about: str, imports: Sequence[str]) -> str:
    """An ordinary mmdet config: the original's with another model."""
    changes: dict[str, Any] = dict(model=_model_changes(cfg, model))
    if cfg.get('resume'):  # as a resumed run dumps it; load_from is no run
        changes['resume'] = False
    if imports:
        changes['custom_imports'] = _imports(cfg, imports)
    name = os.path.splitext(os.path.basename(files.config))[0]
    if cfg.get('work_dir'):
        changes['work_dir'] = _beside(cfg.work_dir, name)
    base = _relative(cfg.filename, files)
    if '::' not in base and Config._is_lazy_import(cfg.filename):
        # Such a config cannot be the base of a text; it is written whole.
        whole = dict(cfg._cfg_dict.items())
        whole.pop('load_from', None)
        return _header(files, base, about) + pretty_text(
            {**whole, **changes, 'model': dict(model)}) \
            + load_from(files.weights)
    return _header(files, base, about) + f'_base_ = {base!r}\n' \
        + pretty_text(_replacing_none(cfg, changes)) + load_from(files.weights)


def load_from(weights: str) -> str:
    """The line of a config that loads a file beside it, from wherever it is
    run. mmengine puts the folder in as it is, so one whose name would end the
    string is written out."""
    path = os.path.abspath(weights)
    value = repr(path) if set(path) & set('"\\') \
        else f'"{{{{ fileDirname }}}}/{os.path.basename(path)}"'
    return f'\nload_from = {value}\n'


def progression_text(files: Files, cfg: Config,
                     teachers: Mapping[str, Teacher]) -> str:
    """The config that trains the smaller detector."""
    pool: dict[str, dict[str, Any]] = {}
    for name, teacher in teachers.items():
        pool[name] = dict(config=_relative(teacher.config, files),
                          checkpoint=_relative(teacher.checkpoint, files))
        if teacher.ap is not None:
            pool[name]['ap'] = teacher.ap
    content: dict[str, Any] = dict(
        custom_imports=_imports(cfg, ['mtpd']), load_from=None)
    if cfg.get('work_dir'):
        name = os.path.splitext(os.path.basename(files.progression))[0]
        content['work_dir'] = _beside(cfg.work_dir, name)
    content['mtpd'] = dict(
        student=dict(checkpoint=_relative(files.weights, files)),
        teachers=pool, order='bgs' if len(pool) > 1 else list(pool),
        distill={**RECOMMENDED, 'loss_weight': dict(share=SHARE)})
    command = f'#   {train_command(files)}\n'
    return '# Trains the smaller detector, taught by the one that it was ' \
        f'made of:\n{command}_base_ = ' \
        f'{_relative(files.config, files)!r}\n' \
        + pretty_text(_replacing_none(cfg, content))


def train_command(files: Files) -> str:
    """What trains the smaller detector, for a shell."""
    return f'python tools/train.py {shlex.quote(files.progression)}'


def difference(old: Mapping[str, Any], new: Mapping[str, Any]
               ) -> dict[str, Any]:
    """What to write into a config whose base has ``old``, to have ``new``.

    Args:
        old: Nested dicts; all their keys are in ``new``.
        new: The same with other values.
    """
    changes: dict[str, Any] = {}
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(old.get(key), Mapping):
            inner = difference(old[key], value)
            if inner:
                changes[key] = inner
        elif key not in old:
            changes[key] = value
        elif old[key] != value:
            changes[key] = _replacing(value)
    return changes


def _replacing(value: Any) -> Any:
    """A value in place of one that is no dict, with which mmengine would not
    merge a dict."""
    return {'_delete_': True, **value} if isinstance(value, Mapping) else value


def _replacing_none(cfg: Config, changes: Mapping[str, Any]
                    ) -> dict[str, Any]:
    """Changes to a config that may set some of their keys to None."""
    return {key: _replacing(value) if cfg.get(key, ...) is None else value
            for key, value in changes.items()}


def refuse_existing(files: Iterable[str], sources: Iterable[str],
                    overwrite: bool,
                    error: type[PlanError] = CannotSlice) -> None:
    """Raise if a file would be overwritten that should not be.

    Args:
        files: What will be written.
        sources: What is read, which is never overwritten. URLs and the like
            may be among them.
        overwrite: Whether others are.
        error: What is raised.

    Raises:
        PlanError: One of them exists, or is a folder.
    """
    there = [path for path in files if os.path.lexists(path)]
    other = 'choose another place or name by --out.'
    wrong = [f'{path} is a folder, where a file would be written. Remove it, '
             f'or {other}' for path in filter(os.path.isdir, there)]
    read = [path for path in map(os.path.expanduser, sources)
            if _is_any_of(path, there)]
    wrong += [f'{path} would be written over itself, as it is read too. '
              f'Rename it, or {other}' for path in dict.fromkeys(read)]
    if wrong:
        raise error(wrong)
    if there and not overwrite:
        raise error([f'{", ".join(there)} exists already. Add --overwrite to '
                     f'replace it, or {other}'])


def config_files(name: str) -> Iterator[str]:
    """A config's file and those of its ``_base_``.

    Args:
        name: As in :func:`mtpd.plan.detectors.load_config`.
    """
    yield name
    # mmengine puts the path of each before its text.
    for line in read_file(name).text.splitlines():
        if os.path.isabs(line) and os.path.isfile(line):
            yield line


def _is_any_of(path: str, files: Iterable[str]) -> bool:
    """Whether a path leads to one of these files, by a link or directly."""
    for file in files:
        if os.path.exists(path) and os.path.exists(file) \
                and os.path.samefile(path, file):
            return True
    return False


def _model_changes(cfg: Config, model: Mapping[str, Any]) -> dict[str, Any]:
    """What a config whose base is the original's file has to say to have this
    model. What is filled in at loading, such as the images' mean, is said too:
    the smaller backbone has no weights that it would come from."""
    written = read_file(cfg.filename)
    model, above = dict(model), written.get('data_preprocessor')
    if above and not written.model.get('data_preprocessor') \
            and model.get('data_preprocessor') == above:
        del model['data_preprocessor']  # which mmengine puts there
    return difference(written.model, model)


def _imports(cfg: Config, further: Sequence[str]) -> dict[str, Any]:
    own = dict_of(cfg, 'custom_imports')
    return {**own, 'imports': list(dict.fromkeys([*imported_modules(cfg),
                                                  *further]))}


def _header(files: Files, base: str, about: str) -> str:
    weights = os.path.basename(files.weights)
    return f'# {base} {about}\n# in {weights};\n# load_from=None begins ' \
        'with random weights.\n'


def _beside(work_dir: str, name: str) -> str:
    """A work dir of a name of its own, so that no run overwrites another's."""
    return os.path.join(os.path.dirname(os.path.normpath(work_dir)), name)


def _relative(path: str, files: Files) -> str:
    """A path as a file of the new folder names it."""
    if is_url(path) or '::' in path:
        return path
    folder = os.path.dirname(os.path.abspath(files.config))
    path = os.path.abspath(os.path.expanduser(path))
    if os.path.realpath(folder) != folder and os.path.dirname(path) != folder:
        return path  # by "..", the system leaves a link where it leads to
    return os.path.relpath(path, folder)
