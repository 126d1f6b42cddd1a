"""Finds a detector's weights in checkpoints of other tools and versions.

mmengine and mmdet take such files, and load nothing of them without a word.
Here the weights are found, and what was taken and left out is said:

- in an entry of another name than ``state_dict``, such as ``model`` or
  ``ema``, also nested (``{'ema': {'module': ...}}``);
- under a prefix: ``module.`` of a wrapped model, ``architecture.`` and
  ``student.`` of mmrazor's distillers, or any other before ``backbone.``;
- with copies beside them as mmdet 2 and mmcv 1 name them: their EMAHook keeps
  a copy of ``neck.conv.weight`` in ``ema_neck_conv_weight``. It exchanges the
  two before it saves, so the plain key holds the averaged weights and the copy
  the last ones. A file of such copies alone is taken as well.

No longer needed once mmengine reads the formats of its predecessors.
"""
import re
from typing import Any, Callable, Iterator, Mapping, NamedTuple

import torch
from torch import Tensor

# The entries that are preferred, in this order, where several match equally.
# mmengine's ``state_dict`` holds averaged weights where there are any; others,
# timm among them, keep those in an entry of their own, and publish the AP of
# that one.
_ENTRIES = ('state_dict_ema', 'state_dict', 'ema', 'model_ema',
            'ema_state_dict', 'model', 'model_state_dict', '')
# The same for prefixes. A teacher is taken where there is nothing else.
_PREFIXES = ('', 'module', 'architecture', 'student')

# Beside a detector under no prefix: those that it is taught by or averaged to.
_BESIDE = ('teacher.', 'student.', 'architecture.', 'ema.', 'ema_model.',
           'model_ema.')
_WRAPPERS = ('module', '_orig_mod')
_COPY = re.compile('ema_')
_WEIGHT = re.compile(r'.*\.|ema_')
_BACKBONE = re.compile(r'(?:(.+?)\.)??backbone\.')


class AmbiguousWeights(ValueError):
    """A file holds several detectors, and nothing says which is meant."""


class FoundWeights(NamedTuple):
    """The weights of one detector.

    Attributes:
        weights: Key in the detector -> tensor.
        notes: What was taken from where, and what was left out; empty for a
            file as mmengine writes it.
        entry: The keys of the entry that they were in, with dots between;
            empty for the file itself.
    """
    weights: dict[str, Tensor]
    notes: tuple[str, ...]
    entry: str = ''


def each_once(weights: Mapping[str, Tensor],
              change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Changed tensors. What is one tensor under several keys, such as a layer
    that all levels share, stays one: files hold it once.

    Args:
        weights: By key.
        change: Makes another tensor of one.
    """
    changed: dict[str, Tensor] = {}
    known: dict[tuple, Tensor] = {}
    for key, value in weights.items():
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        if place not in known or value.numel() == 0:
            known[place] = change(value)
        changed[key] = known[place]
    return changed


def not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """The key of a tensor with numbers that are not finite, if there is
    one."""
    return next((key for key, value in weights.items()
                 if not torch.isfinite(value).all()), None)


class _Candidate(NamedTuple):
    entry: str
    prefix: str
    tensors: Mapping[str, Tensor]  # all of the entry
    expected: Mapping[str, Tensor]

    @property
    def below(self) -> dict[str, Tensor]:
        """All tensors below the prefix."""
        start = f'{self.prefix}.' if self.prefix else ''
        return {key.removeprefix(start): value for key, value
                in self.tensors.items() if key.startswith(start)}

    @property
    def weights(self) -> dict[str, Tensor]:
        """Those below the prefix, without other detectors and without copies
        of mmdet 2's EMAHook; the copies where there is nothing else."""
        own = self.below
        copied = names_of_copies(own, self.expected)
        rest = {key: value for key, value in own.items() if key not in copied
                and (key in self.expected or not key.startswith(_BESIDE))}
        return rest or {name: own[key] for key, name in copied.items()}

    def rank(self) -> tuple[int, int, int]:
        """The smallest is the best."""
        weights, matched = self.weights, 0
        for name, value in self.expected.items():
            matched += name in weights and weights[name].shape == value.shape
        return (-matched, position(_ENTRIES, self.entry.split('.')[0]),
                position(_PREFIXES, self.prefix.removeprefix('module.')))

    def notes(self) -> list[str]:
        """What was taken of the entry, and what was left out."""
        notes = []
        if self.entry not in ('', 'state_dict'):
            notes.append(f'taken from the entry {self.entry!r} of the file')
        if not set(self.prefix.split('.')) <= {'', *_WRAPPERS}:
            notes.append(f'taken from below {self.prefix + "."!r}')
        if all(map(_COPY.match, self.tensors)):
            notes.append("taken from the copies 'ema_...' of mmdet 2's "
                         'EMAHook')
        used = set(map(id, self.weights.values()))
        left = [key for key, value in self.tensors.items()
                if id(value) not in used]
        if left:
            notes.append(f'{len(left)} tensors left out, such as {left[0]}')
        return notes

    def __str__(self) -> str:
        return (f'entry {self.entry!r}' if self.entry else 'the file itself') \
            + (f', prefix {self.prefix + "."!r}' if self.prefix else '')


def find_weights(content: Mapping[str, Any],
                 expected: Mapping[str, Tensor] | None = None
                 ) -> FoundWeights:
    """The weights of one detector in a checkpoint's content.

    Args:
        content: As :func:`torch.load` returns it.
        expected: The detector's own ``state_dict``, which decides between
            several that a file holds; None if it is not known.

    Raises:
        AmbiguousWeights: Several match equally, and none of their names is
            one that is preferred.
    """
    candidates = []
    for entry, tensors in tensor_entries(content):
        for prefix in prefixes(tensors):
            candidates.append(_Candidate(entry, prefix, tensors,
                                         expected or {}))
    if not candidates:
        return FoundWeights({}, ())
    candidates.sort(key=_Candidate.rank)
    best, *others = candidates
    if others and others[0].rank() == best.rank():
        raise AmbiguousWeights(
            f'holds several detectors that fit equally: {best}; {others[0]}. '
            'Save the one that you mean as dict(state_dict=...)')
    notes = best.notes()
    entries = sorted({one.entry for one in others} - {best.entry})
    if entries:
        notes.append(
            f'the weights in {", ".join(map(repr, entries))} left out')
    return FoundWeights(best.weights, tuple(notes), best.entry)


def tensor_entries(content: Mapping[str, Any], path: str = ''
                   ) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dict of weights in a file by the path of its keys, '' for the
    file itself; a ``state_dict`` hides what stands beside it, but for timm's
    averages."""
    if isinstance(content.get('state_dict'), Mapping):
        content = {key: content[key] for key in ('state_dict_ema',
                                                 'state_dict')
                   if isinstance(content.get(key), Mapping)}
    tensors = {key: value for key, value in content.items()
               if isinstance(key, str) and isinstance(value, Tensor)}
    # An optimizer's tensors have names without dots.
    if any(map(_WEIGHT.match, tensors)):
        yield path, tensors
    if path.count('.') < 2:
        for name, value in content.items():
            if isinstance(value, Mapping):
                yield from tensor_entries(value,
                                          f'{path}.{name}'.removeprefix('.'))


def prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """What stands before the backbones' keys, without the last dot; before
    all keys, where there is no backbone."""
    found = set()
    for match in filter(None, map(_BACKBONE.match, tensors)):
        found.add(match[1] or '')
    return sorted(found) or [_wrappers_of(tensors)]


def _wrappers_of(tensors: Mapping[str, Tensor]) -> str:
    """What PyTorch puts before all keys of a wrapped or compiled model."""
    found: list[str] = []
    while True:
        before = ''.join(f'{name}.' for name in found)
        name = next((one for one in _WRAPPERS if all(
            key.startswith(f'{before}{one}.') for key in tensors)), None)
        if name is None:
            return '.'.join(found)
        found.append(name)


def names_of_copies(weights: Mapping[str, Tensor],
                    expected: Mapping[str, Tensor]) -> dict[str, str]:
    """Key of a copy that an EMAHook kept -> key of what it is a copy of.

    Args:
        weights: What a file holds.
        expected: What a detector has; empty if that is not known.
    """
    names = {}
    for name in (*weights, *expected):
        names[f'ema_{name.replace(".", "_")}'] = name
        names[f'ema_{name}'] = name
    if not expected and all(map(_COPY.match, weights)):
        names = {key: key.removeprefix('ema_') for key in weights}
    return {key: names[key] for key in weights
            if key in names and key not in expected}


def position(preferred: tuple[str, ...], name: str) -> int:
    """Of a name among those that are preferred; behind them, if not there."""
    return preferred.index(name) if name in preferred else len(preferred)
