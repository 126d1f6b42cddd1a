"""What was measured of a detector and the smaller ones made of it: the table,
and the file that keeps it."""
import json
from dataclasses import asdict, dataclass
from typing import Mapping, Sequence

from mtpd.compat.atomic_files import atomic_write
from mtpd.plan.work_dir import UnreadableHistory, read_json
from mtpd.provenance import versions
from mtpd.show.tables import Table, ap_text, number

_CURE = 'Remove it, and make it anew with tools/compress.py --compare.'


@dataclass(frozen=True)
class Measured:
    """What is known of a variant.

    Attributes:
        name: In the table.
        file: Its file or URL.
        ap: Box AP in percent; None where it could not be measured.
        parameters: Their number; None of an ONNX file.
        multiply_adds: Of the network for one image, as
            :func:`mtpd.analysis.sizes.multiply_adds` counts them; None of an
            ONNX file.
        bytes: Of the file; None of a URL.
        milliseconds: Number of threads -> the median for one image, from the
            resized bytes to the boxes.
        speed: How many times as fast as the first variant it is, with the
            most threads: the median over the rounds, and the ends of its
            95% interval.
    """
    name: str
    file: str
    ap: float | None
    parameters: int | None
    multiply_adds: int | None
    bytes: int | None
    milliseconds: Mapping[int, float]
    speed: tuple[float, float, float]


def variants_table(measured: Sequence[Measured]) -> Table:
    """The variants beside each other."""
    rows = []
    for one in measured:
        times = [number(value) for value in one.milliseconds.values()]
        rows.append([
            one.name, ap_text(one.ap), _scaled(one.parameters, 1e6, ' M', 2),
            _scaled(one.multiply_adds, 1e6, ' M', 1),
            _scaled(one.bytes, 1e3, ' KB', 0), *times,
            '{:.2f} ({:.2f} to {:.2f})'.format(*one.speed)])
    threads = [f'ms, {count} thread{"s" * (count > 1)}'
               for count in (measured[0].milliseconds if measured else ())]
    return Table(
        'The detector and what was made of it',
        ['', 'box AP', 'parameters', 'multiply-adds', 'file', *threads,
         'times as fast'], rows,
        notes=['Milliseconds of one image on the CPU, from the resized bytes '
               'to the boxes, median: .onnx by onnxruntime, the others by '
               'PyTorch. Times as fast: median of the ratios, each of two '
               'passes of one round, with its 95% interval. Multiply-adds of '
               'a two-stage detector follow the number of its proposals, '
               'which the weights decide.'])


def _scaled(value: int | None, unit: float, name: str,
            digits: int) -> str | None:
    return None if value is None else f'{value / unit:,.{digits}f}{name}'


def write_variants(path: str, measured: Sequence[Measured]) -> None:
    """Keep the table, with what it was made with, as JSON.

    Args:
        path: The file.
        measured: What is known of each variant.
    """
    atomic_write(path, json.dumps(
        {'made_with': versions(), 'variants': list(map(asdict, measured))},
        indent=1).encode())


def read_variants(path: str) -> list[Measured]:
    """What :func:`write_variants` has written; empty without the file.

    Args:
        path: The file.

    Raises:
        UnreadableHistory: It is damaged.
    """
    content = read_json(path, {'variants': [dict]}, _CURE)
    if content is None:
        return []
    try:
        return [Measured(**{
            **one, 'speed': tuple(map(float, one['speed'])), 'milliseconds': {
                int(count): float(value) for count, value
                in one['milliseconds'].items()}})
            for one in content['variants']]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableHistory(
            f'{path} is damaged ({type(error).__name__}: {error}). {_CURE}'
            ) from error
