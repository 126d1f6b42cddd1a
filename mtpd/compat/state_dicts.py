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
from typing import Any, Iterator, Mapping, NamedTuple

from torch import Tensor

# The entries that are preferred, in this order, where several match equally.
# mmengine's ``state_dict`` holds averaged weights where there are any; others
# keep those in an entry of their own, and publish the AP of that one.
_ENTRIES = ('state_dict', 'ema', 'model_ema', 'ema_state_dict', 'model',
            'model_state_dict', '')
# The same for prefixes. A teacher is taken where there is nothing else.
_PREFIXES = ('', 'module', 'architecture', 'student')

# Beside a detector under no prefix: those that it is taught by or averaged to.
_BESIDE = ('teacher.', 'student.', 'architecture.', 'ema.', 'ema_model.',
           'model_ema.')
_BACKBONE = re.compile(r'(?:(.+?)\.)??backbone\.')


class AmbiguousWeights(ValueError):
    """A file holds several detectors, and nothing says which is meant."""


class FoundWeights(NamedTuple):
    """The weights of one detector.

    Attributes:
        weights: Key in the detector -> tensor.
        notes: What was taken from where, and what was left out; empty for a
            file as mmengine writes it.
    """
    weights: dict[str, Tensor]
    notes: tuple[str, ...]


class _Candidate(NamedTuple):
    entry: str
    prefix: str
    weights: Mapping[str, Tensor]

    def rank(self, expected: Mapping[str, Tensor]) -> tuple[int, int, int]:
        """The smallest is the best."""
        matched = sum(name in self.weights
                      and self.weights[name].shape == value.shape
                      for name, value in expected.items())
        return (-matched, _position(_ENTRIES, self.entry.split('.')[0]),
                _position(_PREFIXES, self.prefix.removeprefix('module.')))

    def __str__(self) -> str:
        entry = f'entry {self.entry!r}' if self.entry else 'the file itself'
        return entry + (f', prefix {self.prefix + "."!r}' if self.prefix
                        else '')


def _position(preferred: tuple[str, ...], name: str) -> int:
    return preferred.index(name) if name in preferred else len(preferred)


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
    expected = expected or {}
    candidates = [
        _Candidate(entry, prefix, _below(prefix, tensors, expected))
        for entry, tensors in _tensor_entries(content)
        for prefix in _prefixes(tensors)]
    if not candidates:
        return FoundWeights({}, ())
    ranked = sorted(candidates, key=lambda one: one.rank(expected))
    best = ranked[0]
    equal = [one for one in ranked
             if one.rank(expected) == best.rank(expected)]
    if len(equal) > 1:
        raise AmbiguousWeights('holds several detectors that fit equally: '
                               + '; '.join(map(str, equal)) + '. Save the '
                               "one that you mean as dict(state_dict=...)")
    tensors = dict(_tensor_entries(content))[best.entry]
    return FoundWeights(dict(best.weights),
                        tuple(_notes(best, ranked[1:], tensors)))


def _tensor_entries(content: Mapping[str, Any], path: str = ''
                    ) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dict of weights in a file by the path of its keys, '' for the
    file itself; a ``state_dict`` hides what stands beside it."""
    tensors = {key: value for key, value in content.items()
               if isinstance(key, str) and isinstance(value, Tensor)}
    if isinstance(content.get('state_dict'), Mapping):
        yield from _tensor_entries(content['state_dict'],
                                   f'{path}.state_dict'.removeprefix('.'))
        return
    # An optimizer's tensors have other names.
    if any('.' in key or key.startswith('ema_') for key in tensors):
        yield path, tensors
    if path.count('.') < 2:
        for name, value in content.items():
            if isinstance(value, Mapping):
                yield from _tensor_entries(value,
                                           f'{path}.{name}'.removeprefix('.'))


def _prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """What stands before the backbones' keys, without the last dot."""
    found = set()
    for key in tensors:
        match = _BACKBONE.match(key)
        if match:
            found.add(match[1] or '')
    return sorted(found) or ['']


def _below(prefix: str, tensors: Mapping[str, Tensor],
           expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors below a prefix, without other detectors and without copies
    of mmdet 2's EMAHook; the copies where there is nothing else."""
    start = f'{prefix}.' if prefix else ''
    own = {key[len(start):]: value for key, value in tensors.items()
           if key.startswith(start)}
    copies = _copies(own, expected)
    rest = {key: value for key, value in own.items() if key not in copies
            and (key in expected or not key.startswith(_BESIDE))}
    return rest or {name: own[key] for key, name in copies.items()}


def _copies(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
            ) -> dict[str, str]:
    """Key of a copy -> key of what it is a copy of."""
    names = {}
    for name in (*weights, *expected):
        names[f'ema_{name.replace(".", "_")}'] = name
        names[f'ema_{name}'] = name
    if not expected and all(key.startswith('ema_') for key in weights):
        names = {key: key.removeprefix('ema_') for key in weights}
    return {key: names[key] for key in weights
            if key in names and key not in expected}


def _notes(best: _Candidate, others: list[_Candidate],
           tensors: Mapping[str, Tensor]) -> Iterator[str]:
    if best.entry not in ('', 'state_dict'):
        yield f'taken from the entry {best.entry!r} of the file'
    if best.prefix not in ('', 'module'):
        yield f'taken from below {best.prefix + "."!r}'
    if all(key.startswith('ema_') for key in tensors):
        yield "taken from the copies 'ema_...' of mmdet 2's EMAHook"
    left = len(tensors) - len(best.weights)
    if left:
        example = next(key for key in tensors if key.removeprefix(
            f'{best.prefix}.' if best.prefix else '') not in best.weights)
        yield f'{left} tensors left out, such as {example}'
    entries = sorted({one.entry for one in others} - {best.entry})
    if entries:
        yield f'the weights in {", ".join(map(repr, entries))} left out'
