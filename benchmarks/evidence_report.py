"""docs/results.md and its plots, from the JSON in benchmarks/evidence alone.

See evidence.py. Everything here is a function of those files: a test writes
the page anew and compares.
"""
import io
import json
import math
import re
from collections import defaultdict
from functools import cached_property
from itertools import combinations, permutations
from pathlib import Path
from statistics import fmean
from typing import Any, Callable, Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy import stats
from scipy.optimize import brentq

from mtpd.order.adaptation_cost import AdaptationCosts
from mtpd.order.rivals import compare_orders

HERE = Path(__file__).resolve().parent
RESULTS = HERE / 'evidence'
PAGE = HERE.parent / 'docs' / 'results.md'

DATASETS = {
    'bccd': 'Blood cells (BCCD): 205 training and 87 validation pictures, 3 '
            'classes. The student sees them at 160x120, the teachers at '
            '320x240.',
    'drawn': "Drawn shapes (the demo's): 400 training and 100 validation "
             'pictures of 128x112, 5 classes that differ by outline alone; '
             'student and teachers see the same.'}
EPOCHS, SHORT = 6, 3
"""Of a stage in all comparisons, and where all orders are tried."""
PILOT_SEED = 9
MECHANISMS: dict[str, dict[str, Any]] = {
    'FeatureL2Loss': dict(normalise=True), 'CWDLoss': {}, 'FGDLoss': {},
    'MGDLoss': {}, 'PKDLoss': {}}
"""With their settings; the first is what all other comparisons are made
with."""
SHARE, CALIBRATION = .5, 20
"""Of mechanisms that are compared: the gradient at the student's maps over
the detection loss's, and the iterations in which the weight is found."""
ARMS = {'alone': 'trained on alone', 'direct': 'direct from the best teacher',
        'together': 'all teachers at once', 'progression': 'progression'}
ASSUMED_DEVIATION = 0.3
"""Of a paired difference, in AP, fixed before the first run: in a trial two
seeds of one arm differed by 0.0 to 0.3."""
APS = ('AP', 'AP50', 'AP75', 'small', 'medium', 'large')

Values = Mapping[int, float]
"""Seed -> value."""


def smallest_difference(seeds: int,
                        deviation: float = ASSUMED_DEVIATION) -> float:
    """That a two-sided paired t test at 5% finds four times in five.

    Args:
        seeds: How many pairs, at least 2.
        deviation: Standard deviation of a pair's difference.
    """
    limit = stats.t(seeds - 1).ppf(.975)

    shift = brentq(lambda shift: stats.nct(seeds - 1, shift).sf(limit) - .8,
                   0, 4 * limit)
    return float(shift * deviation / math.sqrt(seeds))


def interval(differences: Sequence[float],
             step: float = 0.) -> tuple[float, float]:
    """Mean of paired differences and half of its 95% interval (Student's t);
    infinite for fewer than two.

    Args:
        differences: One for each seed.
        step: To which both sides were rounded: the variance is taken to be
            at least what that alone makes of it, step²/6.
    """
    values = np.asarray(differences, float)
    if len(values) < 2:
        return float(values.mean()), math.inf
    return float(values.mean()), float(
        stats.t(len(values) - 1).ppf(.975)
        * math.sqrt(max(values.var(ddof=1), step**2 / 6)
                    / len(values)))


def verdict(mean: float, half: float) -> str:
    """In words, the same for every comparison."""
    if math.isinf(half):
        return 'one seed: nothing can be said'
    if abs(mean) <= half:
        return 'within noise'
    return 'higher' if mean > 0 else 'lower'


def bootstrap(groups: Sequence[Any], statistic: Callable[[list], float],
              draws: int = 2000) -> tuple[float, float]:
    """95% interval of a statistic over groups that are drawn with
    replacement, seed 0; draws of which it is not a number are left out."""
    random = np.random.default_rng(0)
    found = [statistic([groups[i] for i in chosen]) for chosen in
             random.integers(0, len(groups), (draws, len(groups)))]
    low, high = np.quantile([value for value in found
                             if not math.isnan(value)] or [math.nan],
                            (.025, .975))
    return float(low), float(high)


def permutation_chance(pairs: Sequence[tuple[float, float]]) -> float:
    """How often a random pairing has a rank correlation at least as far from
    0: exact, over all of them, so for a few pairs only; 1 where there is
    none."""
    x, y = zip(*pairs)
    here = abs(rank_correlation(pairs))
    if math.isnan(here):
        return 1.
    return float(np.mean([
        abs(rank_correlation(list(zip(x, other)))) > here - 1e-9
        for other in permutations(y)]))


def noise_of_orders(aps: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Of a table (seed, order): how far a seed moves one order.

    Returns:
        Standard deviation of what is left beside the mean of its seed and of
        its order, and the chance of orders at least as different if order
        meant nothing (F test of a two-way analysis of variance).
    """
    table = np.asarray(aps, float)
    seeds, orders = table.shape
    effects = table.mean(0) - table.mean()
    rest = table - table.mean(1, keepdims=True) - effects
    freedom = (seeds - 1) * (orders - 1)
    noise = float((rest**2).sum()) / freedom
    if noise == 0:
        return 0., 0.
    ratio = seeds * float((effects**2).sum()) / (orders - 1) / noise
    return math.sqrt(noise), float(stats.f(orders - 1, freedom).sf(ratio))


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's; not a number where one side is constant."""
    x, y = zip(*pairs)
    if len(set(x)) < 2 or len(set(y)) < 2:
        return math.nan
    return float(stats.spearmanr(x, y).statistic)


def concordance(groups: Sequence[Sequence[tuple[float, float]]]) -> float:
    """Of all pairs within a group, the share in which the higher first value
    has the higher second; a tie counts half."""
    signs = [np.sign((a - c) * (b - d)) for group in groups
             for (a, b), (c, d) in combinations(group, 2)]
    return float(np.mean(signs) + 1) / 2 if signs else math.nan


Stages = Sequence[tuple[str, ...]]
"""The teachers of each stage."""
Changes = tuple[tuple[str, Any], ...]
"""Of ``mtpd`` in each stage, as pairs."""


class Evidence:
    """All results of one data set.

    Args:
        dataset: Its folder below benchmarks/evidence.

    Attributes:
        runs: Of students.
        pool: Of teachers.
        explained: Of the comparison ``why``.
        costs: The order's JSON, None while it is not measured.
    """

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset

        def read(pattern: str) -> list[dict[str, Any]]:
            return [json.loads(path.read_text()) for path in sorted(
                (RESULTS / dataset).glob(pattern))]

        self.runs = read('seed*.json')
        self.pool = read('pool_*.json')
        self.explained = read('why_*.json')
        self.costs = next(iter(read('costs.json')), None)

    @cached_property
    def adaptation(self) -> AdaptationCosts:
        """The costs that the order was found from."""
        return AdaptationCosts.from_json(self.costs['costs'])

    @property
    def student(self) -> str:
        """Its name among the costs."""
        return next(n for n in self.adaptation.names
                    if n not in self.costs['aps'])

    @property
    def best(self) -> str:
        """The teacher with the highest AP, where every order ends."""
        return self.costs['orders']['1'][-1]

    @cached_property
    def by_path(self) -> dict[tuple, dict[int, dict[str, Any]]]:
        """(student, its stages as tuples) -> seed -> run; without the
        pilot's."""
        found: dict[tuple, dict[int, dict[str, Any]]] = defaultdict(dict)
        for run in self.runs:
            node = run['node']
            if node['seed'] != PILOT_SEED:
                found[node['student'], tuple(
                    (tuple(s['teachers']), s['epochs'], s['decay'],
                     json.dumps(s['changes'])) for s in node['stages'])][
                         node['seed']] = run
        return found

    def runs_of(self, stages: Stages, changes: Changes = (),
                student: str = 'mtpd') -> dict[int, dict[str, Any]]:
        """Seed -> run of the student after stages of full length."""
        said = json.dumps(changes)
        return self.by_path.get((student, tuple(
            (tuple(teachers), EPOCHS, 'cosine', said)
            for teachers in stages)), {})

    def aps(self, stages: Stages, changes: Changes = (),
            student: str = 'mtpd') -> dict[int, float]:
        """Seed -> AP of the same."""
        return {seed: run['AP'] for seed, run in self.runs_of(
            stages, changes, student).items()}


def with_mechanism(name: str, equal: bool = True) -> Changes:
    """The change of a stage that is taught by another mechanism.

    Args:
        name: One of :data:`MECHANISMS`.
        equal: Its weight is found, so that gradients are as large with all of
            them; otherwise it is the mechanism's default.
    """
    of = 'distill', (('type', name), *MECHANISMS[name].items())
    return (of, ('distill.loss_weight.share', SHARE),
            ('distill.loss_weight.iterations', CALIBRATION),
            ('init_adapters', 'random')) if equal else (of,)


ADAPTED: Changes = (('adapter', 'conv'),)
"""The change of a stage with a trained adapter where channels are equal."""


def at_scale(teacher: str, scale: int) -> Changes:
    """The change of a stage whose teacher sees pictures of another size."""
    return (f'teachers.{teacher}.scale', scale),


def arms(evidence: Evidence) -> dict[str, list[tuple[str, ...]]]:
    """Arm of the main comparison -> the teachers of each of its stages; only
    those trained on alone while there is no order."""
    if evidence.costs is None:
        return {'alone': [(), ()]}
    pair = evidence.costs['orders']['2']
    return {'alone': [()] * len(pair),
            'direct': [(evidence.best,)] * len(pair),
            'together': [tuple(evidence.costs['aps'])] * len(pair),
            'progression': [(name,) for name in pair]}


def write(page: Path = PAGE) -> None:
    """The page, and its plots in a folder of the same name beside it."""
    text, plots = compose()
    page.write_text(text)
    folder = page.with_suffix('')
    folder.mkdir(exist_ok=True)
    for name, svg in plots.items():
        (folder / name).write_text(svg)


def compose() -> tuple[str, dict[str, str]]:
    """The page's text and its plots as SVG, by file name."""
    parts, plots = [HEAD], {}
    for dataset, title in DATASETS.items():
        evidence = Evidence(dataset)
        if not evidence.runs:
            parts.append(f'## {dataset}\n\n{title}\n\nNot run.\n')
            continue
        parts.append(f'## {dataset}\n\n{title}\n')
        missing = []
        for name, section in SECTIONS.items():
            text, drawn = section(evidence)
            if text:
                parts.append(text)
            elif name:
                missing.append(name)
            plots.update(drawn)
        if missing:
            parts.append(f'### Not run on {dataset}\n\n'
                         + '; '.join(missing) + '.\n')
        parts.append(runs_made_with(evidence))
    return '\n'.join(parts), plots


HEAD = f'''<!-- Written by benchmarks/evidence.py --report from its JSON;
change the program, not this page. -->
# Does it help, and does the order matter?

```
python benchmarks/evidence.py --budget small --jobs 2
python benchmarks/evidence.py --report
```

Small detectors from random weights on data that fits in a hand: not the
paper's setting (detectors pretrained on COCO), but one that anybody can
repeat. AP is box AP in percent on the validation split, of each training's
last epoch; the same split has told which teacher is the best and which weight
the pilot preferred. A seed changes first weights, order and augmentation of
pictures, and sampling. All arms of a seed start from the same student, so
differences are paired by seed; ± is half of a 95% interval (Student's t over
seeds, not below what rounding to 0.1 AP makes). The teachers are the same for
all seeds. Distillation is `FeatureL2Loss` with `normalise=True` unless said
otherwise, its weight that of configs/evidence, from a pilot on a seed that is
in no comparison. Raw results with config, seed, versions and time:
[benchmarks/evidence](../benchmarks/evidence).

**What can be seen** was fixed before the first run of a comparison, from a
trial in which two seeds of one arm differed by up to 0.3 AP (the deviation of
a paired difference was taken to be {ASSUMED_DEVIATION}): 3 seeds show
differences of {smallest_difference(3):.1f} AP and more, 5 seeds of
{smallest_difference(5):.1f} (found four times in five, at 5%). What an
interval does not tell from zero is called noise here, whatever its sign; and
of twenty intervals about one leaves zero out by chance. The one comparison
that all this was made for is the progression against direct distillation from
the best teacher.
'''


def pool(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """How good student and teachers are."""
    start = evidence.aps([])
    rows = [[f'student, seed {seed}', *aps_of(run), '']
            for seed, run in sorted(evidence.by_path['mtpd', ()].items())
            if seed in start]
    known = evidence.costs is not None
    rows += [[f'teacher {run["name"]}', *aps_of(run), f'''{
        evidence.adaptation.cost(evidence.student, run['name']):.3f}'''
        if known else ''] for run in evidence.pool]
    text = '### The pool\n\n' + table(
        ['', *APS, 'cost from the student of seed 0'], rows)
    if start and evidence.pool:
        gap = max(run['AP'] for run in evidence.pool) - _average(start)
        text += (f'\nThe best teacher is {gap:.1f} AP above the students.')
    if known:
        text += (' Order found for at most 1, 2, ... teachers: ' + '; '.join(
            ' > '.join(order) for order in evidence.costs['orders'].values())
            + '.')
        decisions = [d for d in evidence.costs['decisions'] if d]
        text += ''.join(f'\n- {said}' for said in decisions)
    return text + '\n', {}


def pilot(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """Which weight, on a seed of its own."""
    rows = []
    for run in evidence.runs:
        stages = run['node']['stages']
        if run['seed'] == PILOT_SEED and len(stages) == 1:
            rows.append([
                ' and '.join(f'{k} {v:g}' for k, v in stages[0]['changes'])
                or 'trained on alone', f'{run["start"]:.1f}',
                f'{run["AP"]:.1f}', ratio_of(run)])
    if not rows:
        return '', {}
    return (f'### Pilot\n\nSeed {PILOT_SEED}, one stage of {EPOCHS} epochs '
            'below the best teacher. One seed tells only what is far too '
            'small or too large.\n\n' + table(
                ['', 'AP before', 'AP after', 'distill_ratio at the end'],
                sorted(rows))), {}


def main_comparison(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """Every arm against the student trained on alone, and against direct."""
    of_arms = arms(evidence)
    runs = {arm: evidence.runs_of(of) for arm, of in of_arms.items()}
    start = evidence.aps([])
    seeds = set.intersection(set(start), *map(set, runs.values()))
    if len(runs) < 2 or not seeds:
        return '', {}
    aps = {arm: {s: of[s]['AP'] for s in seeds} for arm, of in runs.items()}
    start = {s: start[s] for s in seeds}
    rows = [['the student that all start from', _by_seed(start),
             _mean(start), _difference(start, aps['alone']), '', '']]
    for arm, of in aps.items():
        path = ' > '.join('+'.join(t) for t in of_arms[arm])
        rows.append([
            ARMS[arm] + (f' ({path})' if arm in ('direct', 'progression')
                         else ''), _by_seed(of), _mean(of), *(
                _difference(of, aps[other]) if arm != other else ''
                for other in ('alone', 'direct')),
            ratio_of(runs[arm][min(seeds)])])
    said = ''.join(f'- {ARMS[a]} against {ARMS[b]}: '
                   + _difference(aps[a], aps[b]) + '\n' for a, b in (
                       ('progression', 'direct'), ('progression', 'alone'),
                       ('direct', 'alone'), ('progression', 'together'),
                       ('together', 'alone')))
    if len(seeds) > 1:
        spread = np.std([aps['progression'][s] - aps['direct'][s]
                         for s in seeds], ddof=1)
        said += ('\nThe deviation of a paired difference (progression minus '
                 f'direct) was {spread:.2f}, taken to be {ASSUMED_DEVIATION} '
                 'beforehand.\n')
    name = f'{evidence.dataset}_main.svg'
    return (
        f'### Main comparison\n\n{len(of_arms["alone"])} stages of {EPOCHS} '
        'epochs in every arm, the rate restarting; the progression is what '
        'the selection finds for at most 2 teachers, as in most of the '
        "paper's experiments. distill_ratio: distillation over detection loss "
        f'in the last epoch, seed {min(seeds)}. Where student and teachers '
        'have equal channels there is no adapter, and one map cannot equal '
        'those of several teachers: the ratio of "all at once" stays '
        'high.\n\n' + table(
            ['', 'AP by seed', 'mean', 'minus trained on alone',
             'minus direct', 'distill_ratio'], rows) + '\n' + said
        + f'\n![AP by arm](results/{name})\n'), {name: points(
            {ARMS[a].replace(' from the', '\nfrom the'): [
                of[s] for s in sorted(of)] for a, of in aps.items()},
            'box AP', paired=True)}


def orders(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """All sequences of one seed by AP, with the rules' ranks."""
    by_seed = orders_by_seed(evidence)
    first = by_seed.get(0)
    if not first or evidence.costs is None or not evidence.aps([]).get(0):
        return '', {}
    start = evidence.aps([])[0]
    teachers = evidence.costs['aps']
    total = sum(math.perm(len(teachers), k + 1) for k in range(len(teachers)))
    text = (f'### Orders\n\nEvery sequence of 1 to {len(teachers)} teachers, '
            f'{SHORT} epochs each, the rate falling linearly; seed 0, from '
            f'{start:.1f} AP; {len(first)} of {total} sequences were run.\n\n')
    rows = []
    for length in sorted({len(o) for o in first}):
        of = {o: ap for o, ap in first.items() if len(o) == length}
        ranked = sorted(of, key=lambda o: -of[o])
        rows.append([
            length, len(of), f'{of[ranked[0]]:.1f} ({" > ".join(ranked[0])})',
            f'{np.median(list(of.values())):.1f}',
            f'{of[ranked[-1]]:.1f} ({" > ".join(ranked[-1])})'])
    text += table(['teachers', 'sequences', 'best', 'median', 'worst'], rows)
    text += '\nWhat the rules choose, and its rank among the sequences of ' \
        'its length (1 is best):\n\n' + ranks(evidence, first)
    text += _between_seeds(by_seed, first) + _with_adapters(evidence)
    name = f'{evidence.dataset}_orders.svg'
    return (text + f'\n![AP by length](results/{name})\n'), {name: points({
        f'{n} teacher' + 's' * (n > 1): [
            ap for o, ap in first.items() if len(o) == n]
        for n in sorted({len(o) for o in first})}, 'box AP')}


def orders_by_seed(evidence: Evidence, changes: Changes = ()
                   ) -> dict[int, dict[tuple[str, ...], float]]:
    """Seed -> sequence -> AP, of the short stages."""
    found: dict[int, dict[tuple[str, ...], float]] = defaultdict(dict)
    wanted = 'linear', json.dumps(changes)
    for (_, stages), runs in evidence.by_path.items():
        if stages and all(stage[2:] == wanted for stage in stages):
            order = tuple('+'.join(t) for t, *_ in stages)
            for seed, run in runs.items():
                found[seed][order] = run['AP']
    return dict(found)


def ranks(evidence: Evidence,
          first: Mapping[tuple[str, ...], float]) -> str:
    """Each rule's choice for every number of teachers."""
    rows = []
    for most in range(1, len(evidence.costs['aps']) + 1):
        for row in compare_orders(evidence.adaptation, evidence.student,
                                  evidence.costs['aps'], most):
            of = [ap for o, ap in first.items()
                  if len(o) == len(row.teachers)]
            rows.append([f'at most {most}', row.name,
                         ' > '.join(row.teachers),
                         *_ap_and_rank(first.get(row.teachers), of)])
    return table(['teachers', 'rule', 'order', 'AP', 'rank'], rows)


def _ap_and_rank(ap: float | None, of: Sequence[float]) -> list[str]:
    if ap is None:
        return ['', '']
    above = sum(other > ap for other in of)
    equal = sum(other == ap for other in of)
    place = str(above + 1) + (f' to {above + equal}' if equal > 1 else '')
    return [f'{ap:.1f}', f'{place} of {len(of)}']


def _between_seeds(by_seed: Mapping[int, Mapping[tuple[str, ...], float]],
                   first: Mapping[tuple[str, ...], float]) -> str:
    """Whether orders differ by more than one order's seeds."""
    text = ''
    for length in (1, 2):
        of = sorted(o for o in first if len(o) == length)
        seeds = [s for s, aps in sorted(by_seed.items())
                 if all(o in aps for o in of)]
        if len(seeds) < 2 or len(of) < 2:
            continue
        noise, chance = noise_of_orders(
            [[by_seed[s][o] for o in of] for s in seeds])
        means = {o: float(np.mean([by_seed[s][o] for s in seeds]))
                 for o in of}
        ranked = sorted(of, key=lambda o: -means[o])
        text += (
            f'\n{length} teacher{"s" * (length > 1)}, {len(seeds)} seeds, all '
            f'{len(of)} sequences: between seeds one sequence varies by '
            f'{noise:.2f} AP (deviation beside the means of seed and '
            'sequence); the sequences\' means over seeds vary by '
            f'{np.std(list(means.values()), ddof=1):.2f}, from '
            f'{means[ranked[-1]]:.1f} ({" > ".join(ranked[-1])}) to '
            f'{means[ranked[0]]:.1f} ({" > ".join(ranked[0])}). ' + (
                'The sequences differ' if chance < .05 else
                'Within noise: a rank among them means nothing')
            + f' (F test, {_p(chance)}).\n')
        if length == 2:
            text += '\n' + table(['sequence', 'mean AP', 'by seed'], [
                [' > '.join(o), f'{means[o]:.1f}',
                 _by_seed({s: by_seed[s][o] for s in seeds})]
                for o in ranked])
            for longer in range(3, max(map(len, first)) + 1):
                rest = [ap for o, ap in first.items() if len(o) == longer]
                if len(rest) < 2:
                    continue
                ratio = float(np.var(rest, ddof=1)) / noise**2 \
                    if noise else math.inf
                chance = stats.f(len(rest) - 1, (len(seeds) - 1) * (
                    len(of) - 1)).sf(ratio)
                text += (
                    f'\nThe {len(rest)} sequences of {longer} teachers, seed '
                    f'0, vary by {np.std(rest, ddof=1):.2f}: ' + (
                        'more than' if chance < .05 else 'not more than')
                    + ' such noise would make them (F test with the noise of '
                    f'2 teachers, {_p(chance)}).\n')
    return text


def _with_adapters(evidence: Evidence) -> str:
    """The orders of two teachers, with and without trained adapters."""
    plain, adapted = (orders_by_seed(evidence, changes)
                      for changes in ((), ADAPTED))
    of = sorted({o for aps in adapted.values() for o in aps if len(o) == 2})
    seeds = [s for s in sorted(adapted) if all(
        o in adapted[s] and o in plain[s] for o in of)]
    if len(seeds) < 2 or len(of) < 2:
        return ''
    without, used = ({o: fmean(by_seed[s][o] for s in seeds) for o in of}
                     for by_seed in (plain, adapted))
    noise, chance = noise_of_orders(
        [[adapted[s][o] for o in of] for s in seeds])
    found = tuple(evidence.costs['orders']['2'])
    choices, right = predecessors(evidence, 2, ADAPTED), prefers('cost', -1)
    low, high = bootstrap(choices, right)
    return (
        '\nStudent and teachers have equal channels here, so nothing but the '
        "map itself is compared. With a trained 1x1 convolution in between "
        f'(`adapter=\'conv\'`), {len(seeds)} seeds:\n\n' + table(
            ['sequence', 'mean AP without', 'with', 'by seed',
             'with minus without'],
            [[' > '.join(o), f'{without[o]:.1f}', f'{used[o]:.1f}',
              _by_seed({s: adapted[s][o] for s in seeds}),
              _difference({s: adapted[s][o] for s in seeds},
                          {s: plain[s][o] for s in seeds})]
             for o in sorted(of, key=lambda o: -used[o])])
        + '\nWith it one sequence varies between seeds by '
        f'{noise:.2f} AP, the sequences\' means by '
        f'{np.std(list(used.values()), ddof=1):.2f} (without '
        f'{np.std(list(without.values()), ddof=1):.2f}). ' + (
            'The sequences differ' if chance < .05 else
            'Within noise: a rank among them means nothing')
        + f' (F test, {_p(chance)}). The order found ranks '
        + _ap_and_rank(used[found], list(used.values()))[1]
        + ' by its mean. The smallest cost to the next prefers the better of '
        f'two predecessors in {right(choices):.0%} ({low:.0%} to {high:.0%}): '
        + _interval_cells(low, high, .5, '.0%')[1] + '.\n')


MEASURES = {'cost': 'adaptation cost', 'share': 'the same over the '
            "target's variance", 'similarity': 'kernel similarity (CKA)',
            'gap': 'AP gap to the teacher'}


def predictions(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """What of a teacher goes with what is learnt from it."""
    if evidence.costs is None:
        return '', {}
    found = list(single_stages(evidence))
    text = ''
    first = [p for p in found if p['first'] and not p['short']]
    if {p['target'] for p in first} == set(evidence.costs['aps']):
        rows = []
        for key, name in MEASURES.items():
            pairs = [(of[0][key], fmean(p['AP'] for p in of))
                     for of in grouped(first, 'target')]
            chance = permutation_chance(pairs)
            rows.append([name, _number(rank_correlation(pairs), '+.2f'),
                         f'{chance:.2f}', 'within noise' if chance > .05
                         else 'beyond noise'])
        text += (
            f'\nFrom the student, one stage of {EPOCHS} epochs, mean over '
            f'{len({p["seed"] for p in first})} seeds; costs and similarities '
            'from the student of seed 0. p: how often a random ranking of so '
            'few teachers agrees or disagrees as much (with four of them '
            'never less than 0.08).\n\n' + table(
                ['measure', 'correlation', 'p', ''], rows))
    later = [p for p in found if not p['first'] and p['short']]
    groups = grouped(later, 'source', 'target')
    if len(groups) > 3:
        rows = []
        for key, name in MEASURES.items():
            def correlation(chosen: list, key: str = key) -> float:
                return rank_correlation([(p[key], p['AP']) for of in chosen
                                         for p in of])
            rows.append([name, _number(correlation(groups), '+.2f'),
                         *_interval_cells(*bootstrap(groups, correlation),
                                          0, '+.2f')])
        text += (
            f'\nLater stages of the orders, {SHORT} epochs each: '
            f'{len(later)} of them, into one teacher from another '
            f'({len(groups)} pairs, over which the bootstrap is).\n\n'
            + table(['measure', 'correlation', '95%', ''], rows))
    text += _choices(evidence)
    if not text:
        return '', {}
    return ('### Does the cost predict?\n\nRank correlation (Spearman) of a '
            'measure of a teacher with the AP after it. Costs into a later '
            'teacher are from the teacher before, as the selection takes '
            'them. From the AP the mean of its seed and number of stages is '
            'subtracted. The method expects a negative one for the cost.\n'
            + text), {}


def _choices(evidence: Evidence) -> str:
    """How often a measure prefers the better of two predecessors."""
    rows = []
    for length in range(2, len(evidence.costs['aps'])):
        choices = predecessors(evidence, length)
        if len(choices) < 4:
            continue
        for key, name, sign in (
                ('cost', 'smallest adaptation cost to the next', -1),
                ('similarity', 'largest kernel similarity (CKA)', 1),
                ('ap', 'highest AP', 1)):
            right = prefers(key, sign)
            rows.append([
                length, name, sum(map(len, choices)),
                _number(right(choices), '.0%'),
                *_interval_cells(*bootstrap(choices, right), .5, '.0%')])
    if not rows:
        return ''
    text = (
        '\nThe choice that the selection makes: of two candidates, which '
        'comes before those that are chosen already? How often does the '
        'student end higher below the one that the measure prefers (a tie '
        'counts half)? The bootstrap is over choices (two candidates and the '
        'teacher after them).\n\n' + table(
            ['teachers in all', 'preferred', 'comparisons', 'right', '95%',
             ''], rows))
    by_seed = orders_by_seed(evidence)
    seeds = [s for s, aps in sorted(by_seed.items()) if sum(
        len(o) == 2 for o in aps) == len(evidence.costs['similarity'])
        - len(evidence.costs['aps'])]
    if not seeds:
        return text
    rows = []
    for last in sorted(evidence.costs['aps']):
        before = sorted((evidence.adaptation.cost(first, last), first)
                        for first in evidence.costs['aps'] if first != last)
        rows.append([last, *(
            f'{first} ({cost:.3g}): '
            f'{fmean(by_seed[s][first, last] for s in seeds):.1f}'
            for cost, first in before)])
    return text + (
        '\nTwo teachers: who comes before the last one, by rising cost (in '
        f'brackets), and the AP at the end, mean over {len(seeds)} '
        'seeds.\n\n' + table(['last', 'smallest cost', *[''] * (
            len(rows[0]) - 3), 'largest'], rows))


def prefers(key: str, sign: int) -> Callable[[list], float]:
    """Of what :func:`predecessors` finds: how often a measure prefers the
    better one.

    Args:
        key: The measure.
        sign: -1 where it prefers the smaller.
    """
    return lambda choices: concordance(
        [[(sign * p[key], p['AP']) for p in pair]
         for of in choices for pair in of])


def single_stages(evidence: Evidence) -> list[dict[str, Any]]:
    """Stages below another teacher than the one before, each with the
    measures, and its AP beside the mean of its seed and length."""
    costs = evidence.adaptation
    aps = {evidence.student: evidence.costs['student_ap'],
           **evidence.costs['aps']}
    found = []
    for (student, stages), runs in evidence.by_path.items():
        if not stages or student != 'mtpd' or any(
                len(teachers) != 1 or changes != '[]'
                for teachers, _, _, changes in stages):
            continue
        (target,), _, decay, _ = stages[-1]
        source = stages[-2][0][0] if len(stages) > 1 else evidence.student
        if source == target:
            continue
        for seed, run in runs.items():
            found.append(dict(
                first=len(stages) == 1, short=decay == 'linear', seed=seed,
                length=len(stages), source=source, target=target,
                AP=run['AP'], cost=costs.cost(source, target),
                share=costs.normalised_cost(source, target),
                similarity=evidence.costs['similarity'][f'{source}>{target}'],
                gap=aps[target] - aps[source]))
    for group in grouped(found, 'seed', 'length', 'short'):
        mean = fmean(p['AP'] for p in group)
        for p in group:
            p['AP'] -= mean
    return found


def predecessors(evidence: Evidence, length: int, changes: Changes = ()
                 ) -> list[list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Sequences of so many teachers that differ in the first alone, in pairs;
    grouped by these two and the teacher after them."""
    ends: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for seed, orders_of in sorted(orders_by_seed(evidence, changes).items()):
        for order, ap in sorted(orders_of.items()):
            if len(order) == length:
                ends[seed, order[1:]].append(dict(
                    first=order[0], next=order[1], AP=ap,
                    cost=evidence.adaptation.cost(*order[:2]),
                    similarity=evidence.costs['similarity'][
                        f'{order[0]}>{order[1]}'],
                    ap=evidence.costs['aps'][order[0]]))
    found: dict[tuple, list] = defaultdict(list)
    for candidates in ends.values():
        for one, other in combinations(candidates, 2):
            found[one['first'], other['first'], one['next']].append(
                (one, other))
    return list(found.values())


def grouped(points_of: Iterable[dict[str, Any]],
            *keys: str) -> list[list[dict[str, Any]]]:
    """Those with equal values together."""
    found: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for p in points_of:
        found[tuple(p[key] for key in keys)].append(p)
    return list(found.values())


def _interval_cells(low: float, high: float, zero: float,
                    form: str) -> list[str]:
    if math.isnan(low):
        return ['', 'not known']
    return [f'{low:{form}} to {high:{form}}',
            'within noise' if low <= zero <= high else 'beyond noise']


def mechanisms(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """Direct and progressive, by mechanism: of equal gradients, and with the
    weights that they have by default."""
    of_arms = arms(evidence)
    if len(of_arms) < 2:
        return '', {}
    alone = evidence.aps(of_arms['alone'])
    text = ''
    for equal in (True, False):
        rows, found = [], {}
        for name in MECHANISMS:
            direct, progressive = (
                evidence.runs_of(of_arms[arm], with_mechanism(name, equal))
                for arm in ('direct', 'progression'))
            seeds = sorted(set(direct) & set(progressive))
            if seeds:
                first, second = found[name] = tuple(
                    {s: of[s]['AP'] for s in seeds}
                    for of in (direct, progressive))
                rows.append([
                    name, _by_seed(first), _by_seed(second),
                    _difference(second, first), _difference(first, alone),
                    _difference(second, alone), ', '.join(
                        ratio_of(of[seeds[0]])
                        for of in (direct, progressive))])
        if not rows:
            continue
        text += (_MECHANISMS_EQUAL if equal else _MECHANISMS_DEFAULT) + table(
            ['', 'direct', 'progression', 'progression minus direct',
             'direct minus trained on alone',
             'progression minus trained on alone',
             'distill_ratio of both'], rows)
        shared = set.intersection(*(set(a) for pair in found.values()
                                    for a in pair))
        if len(found) > 1 and len(shared) > 1:
            text += ''.join(
                f'\n{arm}: mechanisms vary by {spread:.2f} AP, one of them '
                f'between seeds by {noise:.2f} (F test, {_p(chance)}).\n'
                for arm, spread, noise, chance in (
                    (arm, np.std([_average({s: pair[i][s] for s in shared})
                                  for pair in found.values()], ddof=1),
                     *noise_of_orders([[pair[i][s] for pair in found.values()]
                                       for s in sorted(shared)]))
                    for i, arm in enumerate(('Direct', 'Progression'))))
    return ('### Mechanisms\n' + text if text else ''), {}


_MECHANISMS_EQUAL = f'''
Equal gradients: `loss_weight=dict(share={SHARE}, iterations={CALIBRATION})`,
so in the first {CALIBRATION} iterations of a stage the weight is found,
without distilling, at which the mechanism's gradient at the student's maps is
half of the detection loss's. distill_ratio as above.

'''
_MECHANISMS_DEFAULT = '''
With their default weights, which are published ones, for larger maps of more
channels: a weak result may be the weight.

'''


def gaps(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """The chains of that comparison, each pair beside each other."""
    if evidence.costs is None:
        return '', {}
    before = evidence.costs['orders']['2'][0]
    best = evidence.best
    rising = {s: run['AP'] for s, run in evidence.by_path.get(('mtpd', (
        ((best,), EPOCHS, 'cosine', json.dumps(at_scale(best, 1))),
        ((best,), EPOCHS, 'cosine', '[]'))), {}).items()}

    def small(*teachers: tuple[str, ...]) -> dict[int, float]:
        return evidence.aps(teachers, student='small')

    rows = []
    for what, direct, through in (
            ('transformer to CNN: swin > swin; resnext > swin',
             evidence.aps([('swin',)] * 2),
             evidence.aps([('resnext',), ('swin',)])),
            (f"resolution: {best} twice at its own; at the student's, then at "
             'its own', evidence.aps([(best,)] * 2), rising),
            (f'smaller student: {best} twice; {before} > {best}',
             small((best,), (best,)), small((before,), (best,))),
            (f'smaller student: alone; {best} twice', small((), ()),
             small((best,), (best,)))):
        if set(direct) & set(through):
            rows.append([what, _by_seed(direct), _by_seed(through),
                         _difference(through, direct)])
    if not rows:
        return '', {}
    return ('### Crossing gaps\n\nA teacher at a smaller scale is the same '
            'detector, which was never trained at it.\n\n' + table(
                ['the one; the other', 'the one', 'the other', 'difference'],
                rows)), {}


def why(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """Training loss, AP and sharpness of taught against untaught."""
    rows = []
    for arm in ('direct', 'progression'):
        found = {run['seed']: run['runs'] for run in evidence.explained
                 if run['arm'] == arm}
        if not found:
            continue
        for name, value in (
                ('training detection loss', lambda of: of['training_loss']),
                ('validation AP', lambda of: of['ap']),
                ('sharpness, both moved alike',
                 lambda of: of['sharpness']['common']),
                ("sharpness, each student's own norms",
                 lambda of: of['sharpness']['own'])):
            first, second = ({s: value(runs[i]) for s, runs in found.items()
                              if value(runs[i]) is not None}
                             for i in (0, 1))
            form = '.1f' if 'AP' in name else '.4f'
            rows.append([arm, name, _by_seed(first, form),
                         _by_seed(second, form),
                         _difference(first, second, form)])
    if not rows:
        return '', {}
    return ('### Why\n\nThe students at the end of the main comparison, on '
            'the same 128 training pictures ([how](analysis.md)). The paper '
            'finds the loss higher, the AP higher and the sharpness lower '
            'after distillation.\n\n' + table(
                ['', '', 'taught', 'trained on alone', 'difference'],
                rows)), {}


def sweeps(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """One stage with changed settings, and the number of teachers."""
    if evidence.costs is None:
        return '', {}
    best = (evidence.best,)
    as_is = evidence.aps([best])
    rows = []
    for (student, stages), runs in evidence.by_path.items():
        if len(stages) == 1 and student == 'mtpd' and \
                stages[0][:3] == (best, EPOCHS, 'cosine'):
            changed = json.loads(stages[0][3])
            keys = {key for key, _ in changed}
            if keys and keys <= {'distill.loss_weight', 'init_adapters',
                                 'adapter'}:
                aps = {s: run['AP'] for s, run in runs.items()}
                rows.append([', '.join(f'{k} {v}' for k, v in changed),
                             _by_seed(aps), _difference(aps, as_is)])
    text = '' if not rows else (
        f'One stage of {EPOCHS} epochs below {best[0]}; ' + (
            "`'auto'` finds the weight in the first iterations, without "
            'distillation.\n\n') + table(
                ['', 'AP by seed', 'minus the first'],
                [['as in the main comparison', _by_seed(as_is), ''],
                 *sorted(rows)]))
    counted = {tuple(o): evidence.aps([(n,) for n in o])
               for o in evidence.costs['orders'].values()}
    several = sum(map(bool, counted.values())) > 2
    if several:
        text += ('\n' * bool(text) + 'The number of teachers, so also of '
                 'epochs.\n\n' + table(['order', 'AP by seed'], [
                     [' > '.join(o), _by_seed(aps)]
                     for o, aps in counted.items()]))
    missing = [what for what, there in (
        ('the weight', any(re.match(r'distill.loss_weight [\d.]+$', row[0])
                           for row in rows)),
        ('the number of teachers', several)) if not there]
    if text and missing:
        text += f'\nNot run: {", ".join(missing)}.\n'
    return ('### Sweeps\n\n' + text if text else ''), {}


SECTIONS: Mapping[str, Callable[[Evidence], tuple[str, dict[str, str]]]] = {
    '': pool, 'pilot': pilot, 'main comparison': main_comparison,
    'orders': orders, 'does the cost predict?': predictions,
    'mechanisms': mechanisms, 'crossing gaps': gaps, 'why': why,
    'sweeps': sweeps}


def runs_made_with(evidence: Evidence) -> str:
    """Versions, hardware and time of all trainings."""
    everything = [*evidence.runs, *evidence.pool]
    said = sorted({', '.join(f'{k} {v}' for k, v in run['made_with'].items()
                             if k not in ('device', 'threads', 'hardware'))
                   + f'; {run["made_with"]["hardware"]}, '
                   f'{run["made_with"]["threads"]} thread(s)'
                   for run in everything})
    minutes = sum(run['minutes'] for run in everything)
    return (f'{len(evidence.pool)} teachers and {len(evidence.runs)} trainings'
            f' of a student or a stage, {minutes:.0f} minutes of processes '
            'together: ' + ' and '.join(said) + '.\n')


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Markdown."""
    lines = [columns, ['---'] * len(columns), *rows]
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |'
                     for line in lines) + '\n'


def aps_of(run: Mapping[str, Any]) -> list[str]:
    """One cell for each of :data:`APS`."""
    return [_number(run.get(name), '.1f') for name in APS]


def _p(chance: float) -> str:
    return f'p = {chance:.2f}' if chance >= .005 else 'p < 0.005'


def _number(value: float | None, form: str) -> str:
    return '' if value is None or math.isnan(value) else f'{value:{form}}'


def _average(of: Values) -> float:
    return float(np.mean(list(of.values())))


def _mean(of: Values) -> str:
    return f'{_average(of):.1f}' if of else ''


def _by_seed(of: Values, form: str = '.1f') -> str:
    return ', '.join(f'{of[s]:{form}}' for s in sorted(of)) or 'not run'


def _difference(of: Values, other: Values, form: str = '.1f') -> str:
    """``+0.4 ± 0.3, higher``, paired by seed."""
    shared = sorted(set(of) & set(other))
    if not shared:
        return ''
    mean, half = interval([of[s] - other[s] for s in shared],
                          .1 if form == '.1f' else 0.)
    return f'{mean:+{form}}' + (
        f' ± {half:{form}}' if math.isfinite(half) else '') + \
        f', {verdict(mean, half)}'


def ratio_of(run: Mapping[str, Any]) -> str:
    """Distillation over detection loss at the end, as a cell."""
    return _number(run['last_epoch'].get('distill_ratio'), '.2f')


def points(groups: Mapping[str, Sequence[float]], label: str,
           paired: bool = False) -> str:
    """Each value as a point, each mean as a line; SVG that is the same every
    time. Values at one place of all groups are joined where they are paired.
    """
    with matplotlib.rc_context({'svg.hashsalt': 'mtpd',
                                'svg.fonttype': 'none'}):
        figure = Figure(figsize=(7, 2.8), layout='constrained')
        axes = figure.subplots()
        if paired:
            axes.plot(range(len(groups)), list(groups.values()), color='C0',
                      lw=.8, alpha=.5)
        for at, values in enumerate(groups.values()):
            shift = np.linspace(-.15, .15, len(values)) \
                if len(values) > 1 and not paired else np.zeros(len(values))
            axes.plot(shift + at, values, 'o', ms=4, alpha=.7, color='C0')
            axes.hlines(np.mean(values), at - .25, at + .25, color='C1')
        axes.set_xticks(range(len(groups)), list(groups))
        axes.set_ylabel(label)
        axes.grid(axis='y', alpha=.3)
        out = io.StringIO()
        figure.savefig(out, format='svg', metadata={'Date': None})
    # matplotlib leaves blanks at line ends.
    return '\n'.join(line.rstrip() for line in out.getvalue().splitlines()) \
        + '\n'
