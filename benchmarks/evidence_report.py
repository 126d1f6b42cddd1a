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
from evidence_store import read_results, results_file
from matplotlib.figure import Figure
from scipy import stats
from scipy.optimize import brentq

from mtpd.order.baselines import compare_orders
from mtpd.order.costs import AdaptationCosts

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / 'docs' / 'results.md'

DATASETS = {
    'bccd': 'Blood cells (BCCD): 205 training and 87 validation pictures, 3 '
            'classes. The student sees them at 160x120, the teachers at '
            '320x240.',
    'drawn': "Drawn shapes (the demo's): 400 training and 100 validation "
             'pictures of 128x112, 5 classes that differ by outline alone; '
             'student and teachers see the same.'}
WITHOUT_ADAPTERS = ('bccd',)
"""Where student and teachers have equal channels."""
EPOCHS, SHORT = 6, 3
"""Of a stage in all comparisons, and where all orders are tried."""
PILOT_SEED = 9
MECHANISMS: dict[str, dict[str, Any]] = {
    'FeatureL2Loss': dict(normalise=True), 'CWDLoss': {}, 'FGDLoss': {},
    'MGDLoss': {}, 'PKDLoss': {}}
"""With their settings; the first is what all other comparisons are made
with."""
WEIGHT = .3
"""Of configs/evidence, by the pilot."""
SHARE, CALIBRATION = .5, 20
"""Of mechanisms that are compared: the gradient at the student's maps over
the detection loss's, and the iterations in which the weight is found."""
ARMS = {'alone': 'trained on alone', 'direct': 'direct from the best teacher',
        'together': 'all teachers at once', 'progression': 'progression'}
ASSUMED_DEVIATION = 0.3
"""Of a paired difference, in AP: fixed before the first run."""
APS = ('AP', 'AP50', 'AP75', 'small', 'medium', 'large')

Values = Mapping[int, float]
"""Seed -> value."""
PairMeasure = Mapping[tuple[str, str], float]
"""(Teacher, teacher after it) -> value."""


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
    if abs(mean) <= half:
        return 'within noise'
    return 'higher' if mean > 0 else 'lower'


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
        return 0., float(not effects.any())
    ratio = seeds * float((effects**2).sum()) / (orders - 1) / noise
    return math.sqrt(noise), float(stats.f(orders - 1, freedom).sf(ratio))


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's; not a number where one side is constant."""
    x, y = zip(*pairs)
    if len(set(x)) < 2 or len(set(y)) < 2:
        return math.nan
    return float(stats.spearmanr(x, y).statistic)


def relabelled(measure: PairMeasure, statistic: Callable[[PairMeasure], float],
               zero: float) -> tuple[float, float]:
    """A statistic of a measure of pairs of teachers, and its chance.

    Args:
        measure: (one teacher, another) -> value, of all pairs.
        statistic: Of such a measure.
        zero: Its value where the measure says nothing.

    Returns:
        The statistic, and how often it is at least as far from ``zero`` where
        the measure's teachers bear each other's names: exact, over all
        relabellings, so never less than 1 over their number.
    """
    names = sorted({name for pair in measure for name in pair})
    here = statistic(measure)
    if math.isnan(here):
        return here, 1.
    others = [statistic({(a, b): measure[new[a], new[b]] for a, b in measure})
              for new in (dict(zip(names, order))
                          for order in permutations(names))]
    return here, float(np.mean(
        [abs(other - zero) > abs(here - zero) - 1e-9 for other in others]))


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
        dataset: One of :data:`DATASETS`.

    Attributes:
        runs: Of students.
        pool: Of teachers.
        explained: Of the comparison ``why``.
        costs: The order's JSON, None while it is not measured.
    """

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        results = read_results(results_file(dataset))

        def of(prefix: str) -> list[dict[str, Any]]:
            return [result for job, result in results.items()
                    if job.startswith(prefix)]

        self.runs = of('seed')
        self.pool = of('pool_')
        self.explained = of('why_')
        self.costs = results.get('costs')

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

    @property
    def pair(self) -> list[str]:
        """The order found for at most two teachers."""
        orders_of = self.costs['orders']
        return orders_of.get('2', orders_of['1'])

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
GENTLE: Changes = (('distill.loss_weight', round(WEIGHT / 5, 3)),)
"""The change of a stage that is taught with a fifth of the weight."""


def at_scale(teacher: str, scale: int) -> Changes:
    """The change of a stage whose teacher sees pictures of another size."""
    return (f'teachers.{teacher}.scale', scale),


def arms(evidence: Evidence) -> dict[str, list[tuple[str, ...]]]:
    """Arm of the main comparison -> the teachers of each of its stages; only
    those trained on alone while there is no order, and no progression where
    the order found is of one teacher."""
    if evidence.costs is None:
        return {'alone': [(), ()]}
    pair = evidence.pair
    found = {'alone': [()] * len(pair),
             'direct': [(evidence.best,)] * len(pair),
             'together': [tuple(evidence.costs['aps'])] * len(pair)}
    if len(pair) > 1:  # else it is direct
        found['progression'] = [(name,) for name in pair]
    return found


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
    found = {dataset: evidence for dataset in DATASETS
             if (evidence := Evidence(dataset)).runs}
    parts, plots = [HEAD, summary(found), DESIGN], {}
    for dataset, title in DATASETS.items():
        parts.append(f'## {dataset}\n\n{title}\n')
        evidence = found.get(dataset)
        if evidence is None:
            parts.append('Not run.\n')
            continue
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


HEAD = '''<!-- Written by benchmarks/evidence.py --report from its JSON;
change the program, not this page. -->
# Does it help, and does the order matter?

```
python benchmarks/evidence.py --budget full --jobs 2
python benchmarks/evidence.py --report
```

Small detectors from random weights on data that fits in a hand: not the
paper's setting (detectors pretrained on COCO), but one that anybody can
repeat. `--budget small` runs the pilot, the main comparison, the orders and
the cost on 3 seeds.
'''
DESIGN = f'''## How it was measured

AP is box AP in percent on the validation split, of each training's last
epoch; the same split has told which teacher is the best and which weight the
pilot preferred. A seed changes first weights, order and augmentation of
pictures, and sampling. All arms of a seed start from the same student, so
differences are paired by seed; ± is half of a 95% interval (Student's t over
seeds, not below what rounding to 0.1 AP makes). The teachers are the same for
all seeds: no interval here is over teachers. Distillation is `FeatureL2Loss`
with `normalise=True` unless said otherwise, its weight that of
configs/evidence, from a pilot on a seed that is in no comparison. Raw results
with config, seed, versions and time:
[benchmarks/evidence](../benchmarks/evidence).

**What can be seen** was stated before the first run of a comparison: with a
deviation of a paired difference of {ASSUMED_DEVIATION} AP, an assumption, 3
seeds show differences of {smallest_difference(3):.1f} AP and more, 5 seeds of
{smallest_difference(5):.1f} (found four times in five, at 5%); what the
deviations were stands below. What an interval does not tell from zero is
called noise, whatever its sign; and of twenty intervals about one leaves zero
out by chance. The one comparison that all this was made for is the progression
against direct distillation from the best teacher.
'''


def summary(found: Mapping[str, Evidence]) -> str:
    """What is asked first, on all data sets."""
    rows: dict[str, list[str]] = {
        'distillation from the best teacher, minus trained on alone': [],
        'progression, minus trained on alone': [],
        'progression, minus directly from the best teacher': [],
        'do the orders of two teachers differ by more than seeds do?': [],
        'the same, with a fifth of the weight': [],
        'of two predecessors the one of the smaller cost is better in': []}
    for of in found.values():
        aps = {arm: of.aps(stages) for arm, stages in arms(of).items()}
        share, chance = choices_right(of, 2, 'cost', -1) \
            if of.costs else (math.nan, 1.)
        for row, said in zip(rows.values(), (
                _difference(aps.get('direct', {}), aps['alone']),
                _difference(aps.get('progression', {}), aps['alone']),
                _difference(aps.get('progression', {}),
                            aps.get('direct', {})),
                _differ(of, ()), _differ(of, GENTLE),
                '' if math.isnan(share) else f'{share:.0%}, {_p(chance)}'),
                strict=True):
            row.append(said or 'not run')
    return '## In short\n\nBox AP.\n\n' + table(
        ['', *found], [[name, *row] for name, row in rows.items()])


def _differ(evidence: Evidence, changes: Changes) -> str:
    """Whether the sequences of two teachers do."""
    by_seed = orders_by_seed(evidence, changes)
    of = list(permutations(sorted(evidence.costs['aps']), 2)) \
        if evidence.costs else []
    seeds = complete(by_seed, of)
    if len(seeds) < 2 or len(of) < 2:
        return ''
    _, chance = noise_of_orders([[by_seed[s][o] for o in of] for s in seeds])
    return f'{"yes" if chance < .05 else "no"}, {_p(chance)}'


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
        ['', *APS, 'cost into it from the student of seed 0'], rows)
    if start and evidence.pool:
        gap = max(run['AP'] for run in evidence.pool) - _average(start)
        text += (f'\nThe best teacher is {gap:.1f} AP above the students.')
    if known:
        text += (' Order found for at most 1, 2, ... teachers: ' + '; '.join(
            ' > '.join(order) for order in evidence.costs['orders'].values())
            + '.')
        text += ' Its decisions (standard errors are over pictures):\n' \
            + ''.join(f'\n- {said}' for said in evidence.costs['decisions']
                      if said and 'no cost was compared' not in said)
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
            f'small or too large: {WEIGHT:g} was taken for all comparisons, '
            'from the middle of those that do not differ.\n\n' + table(
                ['', 'AP before', 'AP after', 'distill_ratio at the end'],
                sorted(rows))), {}


def main_comparison(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """Every arm against the student trained on alone, and against direct."""
    of_arms = arms(evidence)
    runs = {arm: evidence.runs_of(of) for arm, of in of_arms.items()}
    start = evidence.aps([])
    seeds = sorted(set.intersection(set(start), *map(set, runs.values())))
    if len(runs) < 2 or not seeds:
        return '', {}
    aps = {arm: {s: of[s]['AP'] for s in seeds} for arm, of in runs.items()}
    start = {s: start[s] for s in seeds}
    rows = [['the student that all start from', _by_seed(start),
             _mean(start), _difference(start, aps['alone']), '', '', '']]
    for arm, of in aps.items():
        path = ' > '.join('+'.join(t) for t in of_arms[arm])
        rows.append([
            ARMS[arm] + (f' ({path})' if arm in ('direct', 'progression')
                         else ''), _by_seed(of), _mean(of), *(
                _difference(of, aps[other]) if arm != other else ''
                for other in ('alone', 'direct')),
            ratio_of(runs[arm][seeds[0]]), f'''{np.median([
                runs[arm][s]['minutes'] / runs['alone'][s]['minutes']
                for s in seeds]):.1f}'''])
    said = ''.join(
        f'- {ARMS[a]} against {ARMS[b]}: {_difference(aps[a], aps[b])}\n'
        for a, b in (('progression', 'direct'), ('progression', 'alone'),
                     ('direct', 'alone'), ('progression', 'together'),
                     ('together', 'alone')) if a in aps and b in aps)
    if len(seeds) > 2 and 'progression' in aps:
        spread = float(np.std([aps['progression'][s] - aps['direct'][s]
                               for s in seeds], ddof=1))
        said += (
            '\nThe deviation of a paired difference (progression minus '
            f'direct) was {spread:.2f}, taken to be {ASSUMED_DEVIATION} '
            f'beforehand: with it, {len(seeds)} seeds show '
            f'{smallest_difference(len(seeds), spread):.1f} AP and more.\n')
    name = f'{evidence.dataset}_main.svg'
    return (
        f'### Main comparison\n\n{len(of_arms["alone"])} stages of {EPOCHS} '
        'epochs in every arm, the rate restarting; the progression is what '
        'the selection finds for at most 2 teachers, as in most of the '
        "paper's experiments. distill_ratio: distillation over detection loss "
        f'in the last epoch, seed {seeds[0]}. Time: of the last stage, over '
        'that of the student alone (median over seeds): epochs are equal, the '
        'time is not. ' + (
            'Student and teachers have equal channels and so no adapter, and '
            'one map cannot equal those of several teachers: the ratio of '
            '"all at once" stays high. '
            if evidence.dataset in WITHOUT_ADAPTERS else '')
        + 'The weight is from a pilot of direct distillation; the other arms '
        'had none of their own.\n\n' + table(
            ['', 'AP by seed', 'mean', 'minus trained on alone',
             'minus direct', 'distill_ratio', 'time'], rows) + '\n' + said
        + f'\n![AP by arm](results/{name})\n'), {name: points(
            {ARMS[a].replace(' from the', '\nfrom the'): [
                of[s] for s in seeds] for a, of in aps.items()},
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
    rows, groups, untaught = [], {}, []
    for length in sorted({len(o) for o in first}):
        of = {o: ap for o, ap in first.items() if len(o) == length}
        groups[f'{length} teacher' + 's' * (length > 1)] = list(of.values())
        ranked = sorted(of, key=lambda o: -of[o])
        alone = short_alone(evidence, length).get(0)
        untaught.append(math.nan if alone is None else alone)
        rows.append([
            length, len(of), f'{of[ranked[0]]:.1f} ({" > ".join(ranked[0])})',
            f'{np.median(list(of.values())):.1f}',
            f'{of[ranked[-1]]:.1f} ({" > ".join(ranked[-1])})',
            *(['', ''] if alone is None else [
                f'{alone:.1f}', sum(ap > alone for ap in of.values())])])
    text += table(['teachers', 'sequences', 'best', 'median', 'worst',
                   'trained on alone, as long', 'sequences above that'], rows)
    text += ('\nWhat the rules choose (for at most so many teachers), and its '
             'rank among the sequences of its length, 1 is best; seed 0.\n\n'
             + ranks(evidence, first) + _between_seeds(evidence)
             + _again(evidence, GENTLE, 'With a fifth of the weight ('
                      f'{dict(GENTLE)["distill.loss_weight"]}), so that '
                      'distillation does not outweigh detection')
             + _again(evidence, ADAPTED, 'Student and teachers have equal '
                      'channels here, so nothing but the maps themselves is '
                      'compared. With a trained 1x1 convolution in between '
                      "(`adapter='conv'`)"))
    name = f'{evidence.dataset}_orders.svg'
    return (text + f'\n![AP by length](results/{name})\n'), {
        name: points(groups, 'box AP', beside=untaught)}


def short_runs(evidence: Evidence, changes: Changes = ()
               ) -> dict[int, dict[tuple[str, ...], dict[str, Any]]]:
    """Seed -> sequence of single teachers -> run, of the short stages."""
    found: dict[int, dict[tuple[str, ...], dict[str, Any]]] = defaultdict(dict)
    wanted = 'linear', json.dumps(changes)
    for (_, stages), runs in evidence.by_path.items():
        if stages and all(stage[2:] == wanted and len(stage[0]) == 1
                          for stage in stages):
            order = tuple(name for (name,), *_ in stages)
            for seed, run in runs.items():
                found[seed][order] = run
    return dict(found)


def orders_by_seed(evidence: Evidence, changes: Changes = ()
                   ) -> dict[int, dict[tuple[str, ...], float]]:
    """Seed -> sequence -> AP, of the same."""
    return {seed: {order: run['AP'] for order, run in of.items()}
            for seed, of in short_runs(evidence, changes).items()}


def short_alone(evidence: Evidence, length: int) -> dict[int, float]:
    """Seed -> AP after so many short stages without a teacher."""
    return {seed: run['AP'] for seed, run in evidence.by_path.get(
        ('mtpd', (((), SHORT, 'linear', '[]'),) * length), {}).items()}


def ranks(evidence: Evidence,
          first: Mapping[tuple[str, ...], float]) -> str:
    """What the rules choose for every number of teachers, each order once."""
    chosen: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(
        lambda: defaultdict(list))
    for most in range(1, len(evidence.costs['aps']) + 1):
        for row in compare_orders(evidence.adaptation, evidence.student,
                                  evidence.costs['aps'], most):
            chosen[row.teachers][row.name].append(str(most))
    rows = []
    for order, rules in sorted(chosen.items(), key=lambda of: len(of[0])):
        of = [ap for o, ap in first.items() if len(o) == len(order)]
        rows.append([' > '.join(order), '; '.join(
            f'{rule} ({", ".join(most)})' for rule, most in rules.items()),
            *_ap_and_rank(first.get(order), of)])
    return table(['order', 'chosen by', 'AP', 'rank'], rows)


def _ap_and_rank(ap: float | None, of: Sequence[float]) -> list[str]:
    if ap is None:
        return ['', '']
    above = sum(other > ap for other in of)
    equal = sum(other == ap for other in of)
    place = str(above + 1) + (f' to {above + equal}' if equal > 1 else '')
    return [f'{ap:.1f}', f'{place} of {len(of)}']


def _between_seeds(evidence: Evidence) -> str:
    """Whether orders differ by more than one order's seeds."""
    text = ''
    by_seed = orders_by_seed(evidence)
    for length in (1, 2):
        of = sorted(o for o in by_seed[0] if len(o) == length)
        seeds = complete(by_seed, of)
        if len(seeds) < 2 or len(of) < 2:
            continue
        noise, chance = noise_of_orders(
            [[by_seed[s][o] for o in of] for s in seeds])
        text += f'\n{length} teacher{"s" * (length > 1)}, ' + spread_of(
            {o: fmean(by_seed[s][o] for s in seeds) for o in of}, len(seeds),
            noise, chance)
        if length == 2:
            text += _sequences_of_two(evidence, seeds)
            for longer in range(3, max(map(len, by_seed[0])) + 1):
                rest = [ap for o, ap in by_seed[0].items()
                        if len(o) == longer]
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


def complete(by_seed: Mapping[int, Mapping[tuple[str, ...], Any]],
             of: Iterable[tuple[str, ...]]) -> list[int]:
    """The seeds that have all these sequences."""
    wanted = set(of)
    return [seed for seed, found in sorted(by_seed.items())
            if wanted <= set(found)]


def spread_of(means: Mapping[tuple[str, ...], float], seeds: int,
              noise: float, chance: float) -> str:
    """What :func:`noise_of_orders` found, as a sentence."""
    ranked = sorted(means, key=lambda o: -means[o])
    return (
        f'{seeds} seeds, all {len(means)} sequences: between seeds one '
        f'sequence varies by {noise:.2f} AP (deviation beside the means of '
        "seed and sequence); the sequences' means over seeds vary by "
        f'{np.std(list(means.values()), ddof=1):.2f}, from '
        f'{means[ranked[-1]]:.1f} ({" > ".join(ranked[-1])}) to '
        f'{means[ranked[0]]:.1f} ({" > ".join(ranked[0])}). ' + (
            'The sequences differ' if chance < .05 else
            'Within noise: a rank among them means nothing')
        + f' (F test, {_p(chance)}).\n')


def _sequences_of_two(evidence: Evidence, seeds: Sequence[int],
                      changes: Changes = ()) -> str:
    """All of them by their mean, and each against its reverse."""
    runs = short_runs(evidence, changes)
    aps = {o: {s: runs[s][o]['AP'] for s in seeds}
           for o in runs[seeds[0]] if len(o) == 2}
    alone = short_alone(evidence, 2)
    alone = {s: alone[s] for s in seeds if s in alone}
    plain = orders_by_seed(evidence)
    rows = [[' > '.join(o), _mean(of), _by_seed(of), _difference(of, alone),
             _number(fmean(runs[s][o]['last_epoch']['distill_ratio']
                           for s in seeds), '.2f'), *([] if not changes else [
                _difference(of, {s: plain[s][o] for s in seeds
                                 if o in plain.get(s, {})})])]
            for o, of in sorted(aps.items(), key=lambda of: -_average(of[1]))]
    if alone:
        every = {s: fmean(of[s] for of in aps.values()) for s in alone}
        rows += [['all of them', _mean(every), _by_seed(every),
                  _difference(every, alone), '', *[''] * bool(changes)],
                 ['trained on alone', _mean(alone), _by_seed(alone), '', '',
                  *[''] * bool(changes)]]
    return '\n' + table(
        ['sequence', 'mean AP', 'by seed', 'minus trained on alone',
         'distill_ratio at the end',
         *['minus the same without the change'] * bool(changes)],
        rows) + (
        '\nThe same two teachers in both orders:\n\n' + table(
            ['', 'minus its reverse'],
            [[' > '.join(o), _difference(aps[o], aps[o[::-1]])]
             for o in sorted(aps) if o < o[::-1] and o[::-1] in aps]))


def _again(evidence: Evidence, changes: Changes, what: str) -> str:
    """The sequences of two teachers with a change in all stages."""
    by_seed = orders_by_seed(evidence, changes)
    of = sorted({o for aps in by_seed.values() for o in aps if len(o) == 2})
    seeds = complete(by_seed, of)
    if len(seeds) < 2 or len(of) < 2:
        return ''
    means = {o: fmean(by_seed[s][o] for s in seeds) for o in of}
    text = f'\n{what}: 2 teachers, ' + spread_of(
        means, len(seeds), *noise_of_orders(
            [[by_seed[s][o] for o in of] for s in seeds]))
    found = tuple(evidence.pair)
    if found in means:
        text += ('The order found ranks ' + _ap_and_rank(
            means[found], list(means.values()))[1] + ' by its mean.\n')
    share, chance = choices_right(evidence, 2, 'cost', -1, changes)
    if not math.isnan(share):
        text += ('Of two predecessors the one of the smaller cost is the '
                 f'better one in {share:.0%} ({_p(chance)}; see below).\n')
    return text + _sequences_of_two(evidence, seeds, changes)


MEASURES = {'cost': 'adaptation cost', 'share': "the same over the teacher's "
            'variance', 'similarity': 'kernel similarity (CKA)',
            'gap': 'AP gap to the teacher'}


def measures_of(evidence: Evidence, source: str, target: str
                ) -> dict[str, float]:
    """Each of :data:`MEASURES` of a teacher after another detector."""
    aps = {evidence.student: evidence.costs['student_ap'],
           **evidence.costs['aps']}
    return {
        'cost': evidence.adaptation.cost(source, target),
        'share': evidence.adaptation.normalised_cost(source, target),
        'similarity': evidence.costs['similarity'][f'{source}>{target}'],
        'gap': aps[target] - aps[source]}


def pair_measures(evidence: Evidence,
                  key: str) -> dict[tuple[str, str], float]:
    """One of them for all pairs of teachers."""
    return {pair: measures_of(evidence, *pair)[key]
            for pair in permutations(sorted(evidence.costs['aps']), 2)}


def predictions(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """What of a teacher goes with what is learnt from it."""
    if evidence.costs is None:
        return '', {}
    text = _from_the_student(evidence) + _within_teachers(evidence) \
        + _choices(evidence)
    if not text:
        return '', {}
    return ('### Does the cost predict?\n\nA cost is a mean squared distance '
            "in the units of the teacher's maps: costs into one teacher "
            'compare with each other, costs into different ones only over '
            "the teacher's variance.\n" + text), {}


def _from_the_student(evidence: Evidence) -> str:
    """Of the four first stages."""
    aps = {name: evidence.aps([(name,)]) for name in evidence.costs['aps']}
    seeds = set.intersection(*map(set, aps.values()))
    if not seeds or len(aps) < 3:
        return ''
    rows = []
    for key, name in MEASURES.items():
        pairs = [(measures_of(evidence, evidence.student, teacher)[key],
                  fmean(of[s] for s in seeds)) for teacher, of in aps.items()]
        rows.append([name, _number(rank_correlation(pairs), '+.2f'),
                     f'{permutation_chance(pairs):.2f}'])
    return (
        f'\n**From the student**, one stage of {EPOCHS} epochs below each '
        f'teacher, mean over {len(seeds)} seeds: rank correlation (Spearman) '
        'with the AP after it; costs and similarities from the student of '
        'seed 0. p: how often a random ranking agrees or disagrees as much '
        f'(with {len(aps)} teachers never less than '
        f'{2 / math.factorial(len(aps)):.2f}, so nothing can be shown '
        'here).\n\n' + table(['measure', 'correlation', 'p'], rows))


def _within_teachers(evidence: Evidence) -> str:
    """Of later stages, among those that end with the same teacher."""
    gains = later_gains(evidence)
    if set(gains) != set(permutations(evidence.costs['aps'], 2)):
        return ''
    rows = []
    for key, name in MEASURES.items():
        if key != 'share':
            found, chance = relabelled(
                pair_measures(evidence, key), lambda measure: rank_correlation(
                    list(zip(within_targets(measure),
                             within_targets(gains)))), 0)
            rows.append([name, _number(found, '+.2f'), _p(chance)])
    return (
        f'\n**From another teacher**, stages of {SHORT} epochs of the orders: '
        'rank correlation of a measure with the AP after the stage, over the '
        f'{len(gains)} pairs (teacher before, teacher), both beside their '
        'mean over what comes before the same teacher; the AP also beside '
        'that of its seed and number of stages. The method expects a negative '
        'one for the cost. p: how often it is as far from 0 where the '
        "teachers bear each other's names, over all "
        f'{math.factorial(len(evidence.costs["aps"]))} relabellings.\n\n'
        + table(['measure', 'correlation', 'p'], rows))


def within_targets(values: PairMeasure) -> list[float]:
    """Each pair's value beside the mean of all with the same last, in the
    order of the pairs."""
    return [value - fmean(of for (_, b), of in values.items() if b == target)
            for (_, target), value in sorted(values.items())]


def later_gains(evidence: Evidence) -> dict[tuple[str, str], float]:
    """(Teacher before, teacher) -> mean AP after the short stage below it,
    beside the mean of its seed and number of stages."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for of in orders_by_seed(evidence).values():
        for length in {len(o) for o in of if len(o) > 1}:
            aps = {o: ap for o, ap in of.items() if len(o) == length}
            mean = fmean(aps.values())
            for order, ap in aps.items():
                found[order[-2], order[-1]].append(ap - mean)
    return {pair: fmean(of) for pair, of in found.items()}


def _choices(evidence: Evidence) -> str:
    """How often a measure prefers the better of two predecessors."""
    rows = []
    for length in range(2, len(evidence.costs['aps'])):
        number = sum(map(len, predecessors(evidence, length).values()))
        for key, name, sign in (
                ('cost', 'smallest adaptation cost to the next', -1),
                ('similarity', 'largest kernel similarity (CKA)', 1),
                ('gap', 'highest AP', -1)):
            share, chance = choices_right(evidence, length, key, sign)
            if not math.isnan(share):
                rows.append([length, name, number, f'{share:.0%}',
                             _p(chance)])
    if not rows:
        return ''
    text = (
        '\n**The choice that the selection makes**: of two candidates, which '
        'comes before those that are chosen already? How often does the '
        'student end higher below the one that the measure prefers (a tie '
        'counts half)? With two teachers over all seeds, with three on seed '
        '0. p as above, of a share as far from a half.\n\n' + table(
            ['teachers in all', 'preferred', 'comparisons', 'right', 'p'],
            rows))
    by_seed = orders_by_seed(evidence)
    seeds = complete(by_seed, permutations(evidence.costs['aps'], 2))
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


def choices_right(evidence: Evidence, length: int, key: str, sign: int,
                  changes: Changes = ()) -> tuple[float, float]:
    """How often a measure prefers the better predecessor, and the chance of a
    share as far from a half.

    Args:
        evidence: Of one data set.
        length: Of the sequences.
        key: One of :data:`MEASURES`.
        sign: -1 where the measure prefers the smaller.
        changes: Of the stages.
    """
    choices = predecessors(evidence, length, changes)
    if not choices:
        return math.nan, 1.

    def right(measure: PairMeasure) -> float:
        return concordance([[(sign * measure[one, after], ap),
                             (sign * measure[other, after], other_ap)]
                            for (one, other, after), pairs in choices.items()
                            for ap, other_ap in pairs])

    return relabelled(pair_measures(evidence, key), right, .5)


def predecessors(evidence: Evidence, length: int, changes: Changes = ()
                 ) -> dict[tuple[str, str, str], list[tuple[float, float]]]:
    """(One candidate, another, the teacher after them) -> the APs of the two
    sequences of so many teachers that differ in it alone."""
    found: dict[tuple[str, str, str], list] = defaultdict(list)
    for of in orders_by_seed(evidence, changes).values():
        ends: dict[tuple, list] = defaultdict(list)
        for order, ap in sorted(of.items()):
            if len(order) == length:
                ends[order[1:]].append((order[0], ap))
        for rest, candidates in ends.items():
            for (one, ap), (other, low) in combinations(candidates, 2):
                found[one, other, rest[0]].append((ap, low))
    return dict(found)


def mechanisms(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """Direct and progressive, by mechanism: of equal gradients, and with the
    weights that they have by default."""
    of_arms = arms(evidence)
    if len(of_arms) < 2:
        return '', {}
    alone = evidence.aps(of_arms['alone'])
    text = ''
    for equal in (True, False):
        rows: list[list[str]] = []
        found: dict[str, dict[str, Values]] = {}
        for name in MECHANISMS:
            runs = {arm: evidence.runs_of(of_arms[arm],
                                          with_mechanism(name, equal))
                    for arm in ('direct', 'progression') if arm in of_arms}
            seeds = sorted(set.intersection(*map(set, runs.values())))
            if seeds:
                found[name] = {arm: {s: of[s]['AP'] for s in seeds}
                               for arm, of in runs.items()}
                first = found[name]['direct']
                second = found[name].get('progression', {})
                rows.append([
                    name, _by_seed(first), _by_seed(second) if second else '',
                    _difference(second, first), _difference(first, alone),
                    _difference(second, alone), ', '.join(
                        ratio_of(of[seeds[0]]) for of in runs.values())])
        if not rows:
            continue
        text += (_MECHANISMS_EQUAL if equal else _MECHANISMS_DEFAULT) + table(
            ['', 'direct', 'progression', 'progression minus direct',
             'direct minus trained on alone',
             'progression minus trained on alone',
             'distill_ratio of both'], rows)
        shared = sorted(set.intersection(*(
            set(aps) for of in found.values() for aps in of.values())))
        if len(found) < 2 or len(shared) < 2:
            continue
        for arm in next(iter(found.values())):
            aps = [[of[arm][s] for of in found.values()] for s in shared]
            noise, chance = noise_of_orders(aps)
            text += (
                f'\n{arm.capitalize()}: the means of the mechanisms vary by '
                f'{np.std(np.mean(aps, 0), ddof=1):.2f} AP, one of them '
                f'between seeds by {noise:.2f} (F test, {_p(chance)}).\n')
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
    best, of_arms = evidence.best, arms(evidence)
    rising = {s: run['AP'] for s, run in evidence.by_path.get(('mtpd', (
        ((best,), EPOCHS, 'cosine', json.dumps(at_scale(best, 1))),
        ((best,), EPOCHS, 'cosine', '[]'))), {}).items()}
    small = {arm: evidence.aps(of, student='small')
             for arm, of in of_arms.items()}
    path = {arm: ' > '.join('+'.join(names) for names in of)
            for arm, of in of_arms.items()} | {'alone': ARMS['alone']}
    compared = [
        ('transformer to CNN', 'swin > swin', evidence.aps([('swin',)] * 2),
         'resnext > swin', evidence.aps([('resnext',), ('swin',)])),
        ('resolution', f'{best} twice at its own size',
         evidence.aps([(best,)] * 2),
         f"{best} at the student's size, then at its own", rising),
        *(('smaller student', path[one], small[one], path[other],
           small[other]) for one, other in (
               ('alone', 'direct'), ('alone', 'progression'),
               ('direct', 'progression')) if other in small)]
    rows = [[what, one, _by_seed(direct), other, _by_seed(through),
             _difference(through, direct)]
            for what, one, direct, other, through in compared
            if set(direct) & set(through)]
    if not rows:
        return '', {}
    return ('### Crossing gaps\n\nA teacher at a smaller scale is the same '
            'detector, which was never trained at it.\n\n' + table(
                ['', 'the one', 'AP by seed', 'the other', 'AP by seed',
                 'the other minus the one'], rows)), {}


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
    as_is, alone = evidence.runs_of([best]), evidence.aps([()])
    rows = []
    for (student, stages), runs in [
            (('mtpd', ((best, EPOCHS, 'cosine', '[]'),)), as_is),
            *evidence.by_path.items()]:
        if len(stages) == 1 and student == 'mtpd' and \
                stages[0][:3] == (best, EPOCHS, 'cosine'):
            changed = json.loads(stages[0][3])
            keys = {key for key, _ in changed}
            if rows and not keys or not keys <= {
                    'distill.loss_weight', 'init_adapters', 'adapter'}:
                continue
            aps = {s: run['AP'] for s, run in runs.items()}
            rows.append([
                ', '.join(f'{k} {v}' for k, v in changed)
                or 'as in the main comparison', _by_seed(aps),
                _difference(aps, {s: run['AP'] for s, run in as_is.items()})
                if keys else '', _difference(aps, alone),
                ratio_of(runs[min(runs)]) if runs else ''])
    weights = any(re.match(r'distill.loss_weight [\d.]+$', row[0])
                  for row in rows)
    text = '' if len(rows) < 2 else (
        f'One stage of {EPOCHS} epochs below {best[0]}; ' + (
            "`'auto'` finds the weight in the first iterations, without "
            'distillation. distill_ratio in the last epoch, of the first '
            'seed.\n\n') + table(
                ['', 'AP by seed', 'minus as in the main comparison',
                 'minus trained on alone', 'distill_ratio'],
                [rows[0], *sorted(rows[1:])]))
    counted = {tuple(o): evidence.aps([(n,) for n in o])
               for o in evidence.costs['orders'].values()}
    several = sum(map(bool, counted.values())) > 2
    if several:
        rows = []
        for order, aps in counted.items():
            untaught, direct = (evidence.aps([names] * len(order))
                                for names in ((), best))
            rows.append([' > '.join(order), _by_seed(aps),
                         _by_seed(untaught), _difference(aps, untaught),
                         *([_by_seed(direct), _difference(aps, direct)]
                           if len(order) > 1 else ['', ''])])
        text += ('\n' * bool(text) + 'The number of teachers, so also of '
                 'epochs: each line has its own controls.\n\n' + table(
                     ['order', 'AP by seed', 'trained on alone, as long',
                      'minus that', 'direct from the best, as long',
                      'minus that'], rows))
    missing = [what for what, there in (
        ('the weight', weights),
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
    if len(shared) < 3:
        mean = fmean(of[s] - other[s] for s in shared)
        return f'{mean:+{form}}, too few seeds'
    mean, half = interval([of[s] - other[s] for s in shared],
                          .1 if form == '.1f' else 0.)
    return f'{mean:+{form}} ± {half:{form}}, {verdict(mean, half)}'


def ratio_of(run: Mapping[str, Any]) -> str:
    """Distillation over detection loss at the end, as a cell."""
    return _number(run['last_epoch'].get('distill_ratio'), '.2f')


def points(groups: Mapping[str, Sequence[float]], label: str,
           paired: bool = False, beside: Sequence[float] = ()) -> str:
    """Each value as a point, each mean as a line; SVG that is the same every
    time.

    Args:
        groups: Name -> its values.
        label: Of the values.
        paired: Join those at one place of all groups.
        beside: For each group, the student trained on alone.
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
        if any(map(math.isfinite, beside)):
            axes.plot(range(len(groups)), beside, 'D', ms=5, color='C2',
                      label='trained on alone, as long')
            axes.legend()
        axes.set_xticks(range(len(groups)), list(groups))
        axes.set_ylabel(label)
        axes.grid(axis='y', alpha=.3)
        out = io.StringIO()
        figure.savefig(out, format='svg', metadata={'Date': None})
    # matplotlib leaves blanks at line ends.
    return '\n'.join(line.rstrip() for line in out.getvalue().splitlines()) \
        + '\n'
