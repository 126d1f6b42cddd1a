"""Top-level settings that nothing reads: misspelt, or mere names."""
import difflib
import inspect
from typing import Any, Iterable, Iterator, Mapping

from mmengine.runner import Runner

READ = {*inspect.signature(Runner).parameters, 'activation_checkpointing',
        'compile', 'custom_imports', 'efficient_conv_bn_eval',
        'find_unused_parameters', 'model_wrapper_cfg', 'mtpd', 'runner_type',
        'sync_bn', 'tta_model', 'tta_pipeline'} - {'cfg'}
"""What mmengine, mmdet and mtpd read of a config."""

CLOSE = 0.88
"""From which likeness on a name is taken for a misspelt one. No name in
mmdet's own configs is so close, but ``test_pipeline`` to ``tta_pipeline``."""


def unread_notes(cfg: Mapping[str, Any]) -> list[str]:
    """Names in a config that resemble a setting and are none.

    Args:
        cfg: A whole config. Names that resemble no setting are left alone,
            because configs name what they use several times.
    """
    notes = []
    for name in cfg:
        meant = _misspelt(name)
        if meant:
            notes.append(f'{name} is set, which neither mmengine nor mtpd '
                         f'reads, so it has no effect; did you mean {meant}?')
    return notes


def unread_options(cfg: Mapping[str, Any],
                   options: Iterable[str]) -> list[str]:
    """Options of the command line that change nothing: misspelt, or names by
    which the config wrote its settings when it was read.

    Args:
        cfg: The config with the options.
        options: Their fields, such as ``optim_wrapper.optimizer.lr``.
    """
    warnings = []
    for option in options:
        name = option.partition('.')[0]
        if name in READ:
            continue
        meant = _misspelt(name)
        places = [meant + option.removeprefix(name)] if meant \
            else sorted(_places(dict(cfg.items()), option))[:3]
        hint = f' Did you mean {" or ".join(places)}?' if places else ''
        warnings.append(
            f'--cfg-options {option}: neither mmengine nor mtpd reads {name}, '
            'and what the config has made of it stays as it is, so the option '
            f'has no effect unless a part of your own reads it.{hint}')
    return warnings


def _misspelt(name: str) -> str:
    """The setting that a name resembles; empty if it is one or resembles
    none."""
    if name in READ or name == 'test_pipeline':
        return ''
    close = difflib.get_close_matches(name, READ, 1, CLOSE)
    return close[0] if close else ''


def _places(part: Any, key: str, field: str = '') -> Iterator[str]:
    """Where a key stands in the settings that are read."""
    if not isinstance(part, Mapping):
        return
    for name, value in part.items():
        if field and name == key:
            yield f'{field}{name}'
        elif field or name in READ:
            yield from _places(value, key, f'{field}{name}.')
