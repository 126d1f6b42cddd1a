"""Weights that a student takes over from a teacher before it starts."""
import re
from typing import Iterable, Mapping, NamedTuple

from torch import Tensor

INHERITABLE = ('backbone', 'neck', 'head', 'alternate_blocks')
"""Parts that can be taken over."""

_NUMBER = re.compile(r'\.(\d+)(?=\.)')
_HEAD = re.compile(r'^roi_head\.(?:bbox|mask)_head\.')


class Inheritance(NamedTuple):
    """The weights that a student starts from.

    Attributes:
        weights: The student's whole ``state_dict``, with the taken tensors.
        taken: Student key -> teacher key.
        left: Student key -> the reason for keeping its own weights; only keys
            of the wanted parts.
    """
    weights: dict[str, Tensor]
    taken: dict[str, str]
    left: dict[str, str]

    def describe(self) -> str:
        """Part by part, with the first keys that were not taken."""
        lines = []
        parts = dict.fromkeys(map(part_of, [*self.taken, *self.left]))
        for part in parts:
            left = {k: v for k, v in self.left.items() if part_of(k) == part}
            count = sum(part_of(k) == part for k in self.taken)
            some = '; '.join(f'{k}: {v}' for k, v in list(left.items())[:4])
            more = f'; and {len(left) - 4} more' if len(left) > 4 else ''
            lines.append(f'{part}: {count} of {count + len(left)} tensors '
                         'taken' + (f', not {some}{more}' if left else ''))
        return '\n'.join(lines)


def inherit(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor],
            parts: Iterable[str]) -> Inheritance:
    """Take over the teacher's tensors that match in name and shape.

    'head' is all that is neither backbone nor neck. A student with one box and
    one mask head takes those of a cascade's first stage, whose targets are
    encoded alike, and repeats a box regression that all classes share.
    'alternate_blocks' is the backbone of a shallower detector of the teacher's
    family: block i of a stage of d blocks comes from the teacher's block 2i
    where its stage has at least 2d - 1, else from its block i.

    Args:
        student: The student's ``state_dict``.
        teacher: The teacher's.
        parts: Some of :data:`INHERITABLE`.

    Raises:
        ValueError: An unknown part, nothing at all matches, or no stage for
            'alternate_blocks' to thin.

    Source:
        Every second block: Sanh et al., 2019 (arXiv 1910.01108),
        section 2. Neck and head: Kang et al., NeurIPS 2021 (arXiv 2110.12724),
        "inheriting strategy". A cascade's first stage: what the released
        configs of Cao et al., ICML 2023 (arXiv 2308.09105), start from.
    """
    parts = tuple(parts)
    unknown = [part for part in parts if part not in INHERITABLE]
    if unknown:
        raise ValueError(f'mtpd.inherit names {unknown}; known are '
                         f'{", ".join(INHERITABLE)}.')
    wanted = {'backbone' if p == 'alternate_blocks' else p for p in parts}
    every_second = _every_second(student, teacher) \
        if 'alternate_blocks' in parts else set()
    weights, taken, left = dict(student), {}, {}
    for key, own in student.items():
        if part_of(key) not in wanted:
            continue
        source, value = _source(key, own, teacher, every_second)
        if value is None:
            left[key] = f'the teacher has no {source}'
        elif value.shape != own.shape:
            left[key] = (f'{tuple(own.shape)} here, {tuple(value.shape)} in '
                         'the teacher')
        else:
            weights[key] = value.clone()
            taken[key] = source
    if not taken:
        raise ValueError(
            f'mtpd.inherit={parts}: no tensor of the first teacher matches '
            'the student in name and shape. Leave mtpd.inherit out, or start '
            'with a teacher of the same family.')
    return Inheritance(weights, taken, left)


def part_of(key: str) -> str:
    """'backbone', 'neck' or 'head'."""
    first = key.split('.', 1)[0]
    return first if first in ('backbone', 'neck') else 'head'


def _every_second(student: Mapping[str, Tensor],
                  teacher: Mapping[str, Tensor]) -> set[str]:
    """The lists of blocks that are about twice as long in the teacher.

    Raises:
        ValueError: There are none.
    """
    own, other = _lengths(student), _lengths(teacher)
    found = {name for name, length in own.items()
             if other.get(name, 0) >= max(2 * length - 1, length + 1)}
    if not found:
        raise ValueError(
            "mtpd.inherit='alternate_blocks' takes every second block, and no "
            "stage of the first teacher's backbone is twice as deep as the "
            "student's. Set 'backbone', or start with a deeper teacher of the "
            'same family.')
    return found


def _source(key: str, own: Tensor, teacher: Mapping[str, Tensor],
            every_second: set[str]) -> tuple[str, Tensor | None]:
    """The teacher's key for a student's tensor, and the value to take."""
    source = _renamed(key, every_second)
    first = _HEAD.sub(r'\g<0>0.', key)
    if source in teacher or first not in teacher:
        return source, teacher.get(source)
    value = teacher[first]
    if '.fc_reg.' in key and len(value) == 4 and len(own) % 4 == 0:
        value = value.repeat(len(own) // 4, *[1] * (own.ndim - 1))
    return first, value


def _lengths(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Numbered lists within the backbone, such as ``backbone.layer3`` or
    ``backbone.stages.2.blocks`` -> their lengths."""
    lengths: dict[str, int] = {}
    for key in weights:
        if part_of(key) == 'backbone':
            for match in _NUMBER.finditer(key):
                name = key[:match.start()]
                lengths[name] = max(lengths.get(name, 0),
                                    int(match[1]) + 1)
    return lengths


def _renamed(key: str, every_second: set[str]) -> str:
    """The teacher's name of a student's tensor."""
    for match in _NUMBER.finditer(key):
        if key[:match.start()] in every_second:
            return (f'{key[:match.start()]}.{2 * int(match[1])}'
                    f'{key[match.end():]}')
    return key
