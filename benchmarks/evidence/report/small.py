"""The section of docs/compress.md about the slices of the students."""
from pathlib import Path
from typing import Any, Iterable, Mapping

from ..comparisons import COMPARISONS
from ..design import DATASETS, FEW_LABELS
from ..jobs.slices import LONGER, ORIGINALS, SLICE_EPOCHS
from ..jobs.students import Node
from ..store import read_results, results_file
from . import cells
from .cells import Row, Values

PAGE = Path(__file__).resolve().parents[3] / 'docs' / 'compress.md'
MARK = '<!-- From here on written by benchmarks/evidence.py --report. -->\n'
ARMS = {
    'sliced': 'not trained', 'scratch': 'from random weights',
    'alone': 'trained on alone', 'share1': 'taught by the original',
    'scores': 'taught by its scores (`LogitLoss`)',
    'scores_and_maps': 'taught by its scores and maps',
    'share1_fading': 'taught by the original, fading in the last third',
    'distilled': 'taught by the original, share 4',
    'alone_longer': f'trained on alone, {LONGER} times as long',
    'share1_longer': 'taught by the original for as long as this',
    'gentle': 'taught by the original, then by a stronger teacher',
    'progression': 'the same with share 4',
    'onnx32': 'share 4, in onnxruntime', 'onnx8': 'the same in 8 bits',
    'packed6': 'share 4, packed to 6 bits', 'packed4': 'packed to 4 bits'}
"""Arm -> what is written of it, in the order of the rows. What changed nothing
(share 2, fading, a restart) has none."""
FILES = ('onnx32', 'onnx8', 'packed6', 'packed4')
"""Arms that are files of a trained one."""
KINDS = {'w75': '75% of the width', 'w50': 'half of the width',
         'w25': 'a quarter of the width',
         'lowrank': 'low rank (`LowRankConv2d`, half of the rank)',
         'binary': 'binary weights in the backbone',
         'xnor': 'binary weights and inputs in the backbone'}
Result = Mapping[str, Any]


def write(page: Path = PAGE) -> None:
    """Put the section into the page, in place of the one before."""
    text = page.read_text()
    page.write_text(text[:text.index(MARK) + len(MARK)] + compose())


def compose() -> str:
    """The section's text; the data sets that were not run are left out."""
    parts = ['\n## Does it help?\n']
    for dataset in ORIGINALS:
        results = finished(dataset)
        if results:
            parts.append(_introduction(dataset, results)
                         + cells.grouped(COLUMNS, _groups(dataset, results)))
    return '\n'.join([*parts, *([IN_WORDS] if len(parts) > 1 else []), NOTE])


COLUMNS = ('', 'AP by seed', 'mean', 'minus original',
           'minus random weights', 'minus alone')
IN_WORDS = '''What pays most is to begin with the slice's weights: alone, they
end 3 to 8 AP above random ones. Three quarters of the width keep the
original's AP, and a teacher that knows no more adds nothing to them. To half
of the width the original adds half an AP on TXL-PBC, share 4 none; its scores
(`LogitLoss`) or fading out change nothing. On BCCD all is within noise, and a
stronger teacher of twice the resolution after it costs AP. Half of the width
lacks training on TXL-PBC: three times as long, alone, it comes within 1.0 of
the original. Other layers
lose nothing after 16 epochs more than the original had, and teaching adds
nothing to them. onnxruntime finds what the detector finds; 8 and 6 bits cost
some tenths, 4 bits about one AP.

'''
NOTE = '''Half of 95% intervals after ±, paired by seed; **bold** excludes
zero. Made by `python benchmarks/evidence.py --dataset bccd txl --only compress
--data DATA --budget full`.
'''


def finished(dataset: str) -> list[Result]:
    """Results of all jobs that were run, with AP.

    Args:
        dataset: One of :data:`ORIGINALS`.
    """
    known = read_results(results_file(f'{dataset}_slices'))
    jobs = COMPARISONS['compress'](dataset, tuple(range(5)))
    return [known[job.name] for job in jobs
            if 'AP' in known.get(job.name, {})]


def originals(dataset: str, seeds: Iterable[int]) -> Values:
    """Seed -> AP of the detector that was made smaller."""
    known = read_results(results_file(dataset))
    names = {seed: Node(dataset, seed, student=ORIGINALS[dataset][0]).name
             for seed in seeds}
    return {seed: known[name]['AP'] for seed, name in names.items()}


def _introduction(dataset: str, results: list[Result]) -> str:
    title = {**DATASETS, **FEW_LABELS}[dataset]
    epochs = SLICE_EPOCHS[dataset]
    aps = originals(dataset, {one['seed'] for one in results})
    text = (f'**{dataset}** is {title} The original is its student (AP '
            f'{cells.by_seed(aps)}). Training takes {epochs} epochs')
    if dataset == next(iter(ORIGINALS)):
        text += (', by the files that the tool writes, with a share of 1 '
                 'unless another is named')
    return f'{text}.\n\n'


def _groups(dataset: str, results: list[Result]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for kind, title in KINDS.items():
        found: dict[str, dict[int, Result]] = {}
        for one in results:
            if kind_of(one) == kind:
                found.setdefault(one['arm'], {})[one['seed']] = one
        if found:
            groups[title + _share(found)] = _rows(dataset, found)
    return groups


def kind_of(result: Result) -> str:
    """One of :data:`KINDS`."""
    return result.get('layers') or f'w{100 * result["width"]:g}'


def _share(found: Mapping[str, Mapping[int, Result]]) -> str:
    sizes = [one['parameters'] for one in found.get('sliced', {}).values()]
    if not sizes:
        return ''
    share = sizes[0]['slice'] / sizes[0]['original']
    return f', {share:.0%} of the parameters'


def _rows(dataset: str, found: Mapping[str, Mapping[int, Result]]
          ) -> list[Row]:
    aps: dict[str, Values] = {}
    for arm, by_seed in found.items():
        aps[arm] = {seed: one['AP'] for seed, one in by_seed.items()}
    first = originals(dataset, {s for one in aps.values() for s in one})
    rows: list[Row] = []
    for arm, title in ARMS.items():
        if arm in aps:
            compared = [cells.difference(aps[arm], first)]
            for other in controls_of(arm):
                compared.append(cells.difference(aps[arm], aps[other])
                                if other in aps else '')
            rows.append([title + _size(found[arm]), cells.by_seed(aps[arm]),
                         cells.mean(aps[arm]), *compared])
    return rows


def controls_of(arm: str) -> tuple[str, str]:
    """The arms that it is compared with, in the order of the columns; an
    empty name for none.

    Args:
        arm: One of :data:`ARMS`.
    """
    if arm in ('sliced', 'scratch', *FILES):
        return '', ''
    if arm.endswith('_longer'):
        return '', '' if arm == 'alone_longer' else 'alone_longer'
    return 'scratch', '' if arm == 'alone' else 'alone'


def _size(by_seed: Mapping[int, Result]) -> str:
    """The size of a file, for a row of files; of one for onnxruntime also
    what the detector reaches in the same test, one image at a time."""
    one = next(iter(by_seed.values()))
    sizes, seen = one.get('bytes', {}), ''
    if 'AP_of_detector' in one:
        aps = {seed: result['AP_of_detector']
               for seed, result in by_seed.items()}
        seen = f'; mmdet image by image {cells.mean(aps)}'
    for name in ('student.onnx', 'compressed'):
        if name in sizes:
            return f' ({sizes[name] / 1000:.0f} KB{seen})'
    return ''
