"""docs/results.md and its plots, from the JSON in benchmarks/evidence alone.

See evidence.py. Everything here is a function of those files: a test writes
the page anew and compares.
"""
import io
import json
import math
from collections import defaultdict
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

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
MECHANISMS = ('CWDLoss', 'FGDLoss', 'MGDLoss', 'PKDLoss')
"""Beside FeatureL2Loss, which all other comparisons are made with."""
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


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Mean of paired differences and half of its 95% interval (Student's t);
    infinite for fewer than two."""
    values = np.asarray(differences, float)
    if len(values) < 2:
        return float(values.mean()), math.inf
    return float(values.mean()), float(
        stats.t(len(values) - 1).ppf(.975) * values.std(ddof=1)
        / math.sqrt(len(values)))


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
    low, high = np.nanquantile(found, (.025, .975))
    return float(low), float(high)


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


Stages = Sequence[tuple[tuple[str, ...], int]]
"""(teachers, epochs) of each stage."""


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

    @cached_property
    def by_path(self) -> dict[tuple, dict[int, dict[str, Any]]]:
        """(student, its stages as tuples) -> seed -> run."""
        found: dict[tuple, dict[int, dict[str, Any]]] = defaultdict(dict)
        for run in self.runs:
            node = run['node']
            found[node['student'], tuple(
                (tuple(s['teachers']), s['epochs'], s['decay'],
                 json.dumps(s['changes'])) for s in node['stages'])][
                     node['seed']] = run
        return found

    def aps(self, stages: Stages, decay: str = 'cosine',
            changes: Sequence = (), student: str = 'mtpd') -> dict[int, float]:
        """Seed -> AP after these stages, without the pilot's seed."""
        return {seed: run['AP'] for seed, run in self.by_path.get(
            (student, tuple((tuple(t), e, decay, json.dumps(
                [list(c) for c in changes])) for t, e in stages)), {}).items()
                if seed != PILOT_SEED}


def arms(evidence: Evidence) -> dict[str, list[tuple[str, ...]]]:
    """Arm of the main comparison -> the teachers of each of its stages; only
    those trained on alone while there is no order."""
    if evidence.costs is None:
        return {'alone': [(), ()]}
    pair = evidence.costs['orders']['2']
    best = pair[-1]
    return {'alone': [()] * len(pair), 'direct': [(best,)] * len(pair),
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
repeat. AP is box AP in percent on the validation split, which also chose
nothing: each training's last epoch counts. A seed changes everything random:
first weights, order and augmentation of pictures, sampling. All arms of a seed
start from the same student, so differences are paired by seed; ± is half of a
95% interval (Student's t over seeds). The teachers are the same for all seeds.
All distillation is `FeatureL2Loss` with `normalise=True` unless said
otherwise; its weight was chosen by a pilot on a seed that is in no comparison.
Raw results with config, seed, versions and time:
[benchmarks/evidence](../benchmarks/evidence).

**What can be seen** was fixed before the first run, from a trial in which two
seeds of one arm differed by up to 0.3 AP (a paired difference was taken to
vary by {ASSUMED_DEVIATION}): a comparison of 3 seeds shows differences of
{smallest_difference(3):.1f} AP and more, one of 5 seeds of
{smallest_difference(5):.1f} (found four times in five, at 5%). What an
interval does not tell from zero is called noise here, whatever its sign.
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
    for (student, stages), by_seed in evidence.by_path.items():
        run = by_seed.get(PILOT_SEED)
        if run is None or len(stages) != 1 or student != 'mtpd':
            continue
        (teachers, epochs, _, changes), = stages
        rows.append([
            ' and '.join(f'{k} {v:g}' for k, v in json.loads(changes))
            or 'trained on alone', f'{run["start"]:.1f}', f'{run["AP"]:.1f}',
            _number(run['last_epoch'].get('distill_ratio'), '.2f')])
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
    aps = {arm: evidence.aps([(names, EPOCHS) for names in of])
           for arm, of in of_arms.items()}
    if len(aps) < 2 or not all(aps.values()):
        return '', {}
    start = evidence.aps([])
    rows = [['the student that all start from', _by_seed(start),
             _mean(start), _difference(start, aps['alone']), '']]
    for arm, of in aps.items():
        path = ' > '.join('+'.join(t) for t in of_arms[arm])
        rows.append([
            ARMS[arm] + (f' ({path})' if arm == 'progression' else ''),
            _by_seed(of), _mean(of), *(
                _difference(of, aps[other]) if arm != other else ''
                for other in ('alone', 'direct'))])
    said = ''.join(f'- {ARMS[a]} against {ARMS[b]}: '
                   + _difference(aps[a], aps[b]) + '\n' for a, b in (
                       ('progression', 'alone'), ('progression', 'direct'),
                       ('progression', 'together'), ('direct', 'alone'),
                       ('together', 'direct')))
    if len(of_arms['progression']) == 1:
        said += ('\nThe selection stopped at one teacher, so the progression '
                 'is the direct distillation.\n')
    name = f'{evidence.dataset}_main.svg'
    return (f'### Main comparison\n\n{len(of_arms["alone"])} stages of '
            f'{EPOCHS} epochs in every arm, the rate restarting.\n\n' + table(
                ['', 'AP by seed', 'mean', 'minus trained on alone',
                 'minus direct'], rows) + '\n' + said
            + f'\n![AP by arm](results/{name})\n'), {name: points(
                {ARMS[a].replace(' from the', '\nfrom the'): list(of.values())
                 for a, of in aps.items()}, 'box AP')}


def orders(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """All sequences of one seed by AP, with the rules' ranks."""
    by_seed = orders_by_seed(evidence)
    if not by_seed or evidence.costs is None:
        return '', {}
    seed = min(by_seed)
    first = by_seed[seed]
    start = evidence.aps([])[seed]
    teachers = evidence.costs['aps']
    text = (f'### Orders\n\nEvery sequence of 1 to {len(teachers)} teachers, '
            f'{SHORT} epochs each, the rate falling linearly; seed {seed}, '
            f'{len(first)} sequences, from {start:.1f} AP.\n\n')
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
    text += _between_seeds(by_seed, first)
    name = f'{evidence.dataset}_orders.svg'
    return (text + f'\n![AP by length](results/{name})\n'), {name: points({
        f'{n} teacher' + 's' * (n > 1): [
            ap for o, ap in first.items() if len(o) == n]
        for n in sorted({len(o) for o in first})}, 'box AP')}


def orders_by_seed(evidence: Evidence
                   ) -> dict[int, dict[tuple[str, ...], float]]:
    """Seed -> sequence -> AP, of the short stages."""
    found: dict[int, dict[tuple[str, ...], float]] = defaultdict(dict)
    for (_, stages), runs in evidence.by_path.items():
        if stages and all(decay == 'linear' for _, _, decay, _ in stages):
            for seed, run in runs.items():
                order = tuple('+'.join(t) for t, *_ in stages)
                found[seed][order] = run['AP']
    return found


def ranks(evidence: Evidence,
          first: Mapping[tuple[str, ...], float]) -> str:
    """Each rule's choice for every number of teachers."""
    rows = []
    for most in range(1, len(evidence.costs['aps']) + 1):
        for row in compare_orders(evidence.adaptation, evidence.student,
                                  evidence.costs['aps'], most):
            of = [ap for o, ap in first.items() if len(o) == len(row.teachers)]
            ap = first.get(row.teachers)
            rows.append([
                f'at most {most}', row.name, ' > '.join(row.teachers),
                *(['', ''] if ap is None else [
                    f'{ap:.1f}', f'{1 + sum(o > ap for o in of)} of '
                    f'{len(of)}'])])
    return table(['teachers', 'rule', 'order', 'AP', 'rank'], rows)


def _between_seeds(by_seed: Mapping[int, Mapping[tuple[str, ...], float]],
                   first: Mapping[tuple[str, ...], float]) -> str:
    """Whether orders differ by more than one order's seeds."""
    spreads = {order: values for order in sorted(first)
               if len(values := [of[order] for of in by_seed.values()
                                 if order in of]) > 2}
    longest = max(map(len, first))
    if not any(len(order) == longest for order in spreads):
        return ''
    # Seeds start from different students, and a good start stays one.
    within = {seed: np.mean([of[o] for o in spreads])
              for seed, of in by_seed.items()
              if all(o in of for o in spreads)}
    rest = [by_seed[s][o] - within[s] - np.mean(
        [by_seed[t][o] - within[t] for t in within])
        for s in within for o in spreads]
    freedom = (len(within) - 1) * (len(spreads) - 1)
    noise = math.sqrt(sum(r * r for r in rest) / freedom)
    text = (f'\nOne order, {len(within)} seeds: what is left of its AP beside '
            "the seed's and the order's own mean has a standard deviation of "
            f'{noise:.2f} ({len(spreads)} orders). ')
    for length in range(2, longest + 1):
        of = [ap for o, ap in first.items() if len(o) == length]
        ratio = float(np.var(of, ddof=1)) / noise**2
        limit = stats.f(len(of) - 1, freedom).ppf(.95)
        text += (f'Between the {len(of)} orders of {length} teachers of one '
                 f'seed it is {np.std(of, ddof=1):.2f}: ' + (
                     'more than seeds make of one order'
                     if ratio > limit else
                     'within noise, a rank among them means nothing')
                 + f' (variance ratio {ratio:.1f}, 95% point {limit:.1f}). ')
    rows = [[' > '.join(order), _by_seed({
        s: of[order] for s, of in by_seed.items() if order in of})]
        for order, values in spreads.items()]
    return text.strip() + '\n\n' + table(['order', 'AP by seed'], rows)


MEASURES = {'cost': 'adaptation cost', 'share': 'the same over the '
            "target's variance", 'similarity': 'kernel similarity (CKA)',
            'gap': 'AP gap to the teacher'}


def predictions(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """What of a teacher goes with what is learnt from it."""
    if evidence.costs is None:
        return '', {}
    points_of = list(single_stages(evidence))
    rows = []
    for title, chosen in (
            (f'from the student, {EPOCHS} epochs, all seeds',
             [p for p in points_of if p['first'] and not p['short']]),
            (f'later stages of the orders, {SHORT} epochs',
             [p for p in points_of if not p['first'] and p['short']])):
        if len(chosen) < 4:
            continue
        for key, name in MEASURES.items():
            pairs = [(p[key], p['gain']) for p in chosen]
            low, high = bootstrap(pairs, rank_correlation)
            rows.append([title, len(pairs), name,
                         f'{rank_correlation(pairs):+.2f}',
                         f'{low:+.2f} to {high:+.2f}',
                         'within noise' if low <= 0 <= high
                         else 'beyond noise'])
    if not rows:
        return '', {}
    text = (
        '### Does the cost predict?\n\nRank correlation (Spearman) with the '
        'AP that a stage gained. Costs into a later teacher are from the '
        'teacher before, as the selection takes them; those from the student '
        'are of seed 0. The interval is a bootstrap over stages, which share '
        'students: rather too narrow. The method expects less gain at a '
        'higher cost.\n\n' + table(
            ['', 'stages', 'measure', 'correlation', '95%', ''], rows))
    groups = predecessors(evidence)
    if groups:
        rows = []
        for key, name in (('cost', 'smallest adaptation cost to the next'),
                          ('similarity', 'largest kernel similarity (CKA)'),
                          ('ap', 'highest AP')):
            of = [[(p[key], p['AP']) for p in group] for group in groups]
            right = concordance(of)
            low, high = bootstrap(of, concordance)
            if key == 'cost':
                right, low, high = 1 - right, 1 - high, 1 - low
            rows.append([name, f'{100 * right:.0f}%',
                         f'{100 * low:.0f} to {100 * high:.0f}%',
                         'within noise' if low <= .5 <= high
                         else 'beyond noise'])
        text += (
            '\nThe choice that the selection makes: which teacher comes '
            'before those that are chosen already. Of two candidates, how '
            'often does the student end higher below the one that the '
            f'measure prefers? {len(groups)} choices, seed 0; the bootstrap '
            'is over choices.\n\n' + table(
                ['preferred', 'right', '95%', ''], rows))
    return text, {}


def single_stages(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """Stages below another teacher than the one before, each with its gain
    and the measures."""
    costs, aps = evidence.adaptation, evidence.costs['aps']
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
            yield dict(
                first=len(stages) == 1, short=decay == 'linear', seed=seed,
                gain=run['AP'] - run['start'],
                cost=costs.cost(source, target),
                share=costs.normalised_cost(source, target),
                similarity=evidence.costs['similarity'][f'{source}>{target}'],
                gap=aps[target] - run['start'])


def predecessors(evidence: Evidence) -> list[list[dict[str, float]]]:
    """The choices: sequences that differ in the first teacher alone."""
    by_seed = orders_by_seed(evidence)
    found = defaultdict(list)
    for order, ap in by_seed[min(by_seed)].items() if by_seed else ():
        if len(order) > 1:
            found[order[1:]].append(dict(
                cost=evidence.adaptation.cost(*order[:2]), AP=ap,
                similarity=evidence.costs['similarity'][
                    f'{order[0]}>{order[1]}'],
                ap=evidence.costs['aps'][order[0]]))
    return [group for _, group in sorted(found.items()) if len(group) > 1]


def mechanisms(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """Direct and progressive, by mechanism."""
    of_arms = arms(evidence)
    rows = []
    for name in ('FeatureL2Loss', *MECHANISMS):
        changes = () if name == 'FeatureL2Loss' else (
            ('distill', {'type': name}),)
        direct, progressive, alone = (
            evidence.aps([(t, EPOCHS) for t in of_arms.get(arm, [()])],
                         changes=changes if arm != 'alone' else ())
            for arm in ('direct', 'progression', 'alone'))
        if direct and progressive:
            rows.append([name, _by_seed(direct), _by_seed(progressive),
                         _difference(progressive, direct),
                         _difference(direct, alone)])
    if len(rows) < 2:
        return '', {}
    return ('### Mechanisms\n\nEach with its default weight (FeatureL2Loss as '
            'in the main comparison).\n\n' + table(
                ['', 'direct', 'progression', 'progression minus direct',
                 'direct minus trained on alone'], rows)), {}


def gaps(evidence: Evidence) -> tuple[str, dict[str, str]]:
    """The chains of that comparison, each pair beside each other."""
    best = max(evidence.pool, key=lambda run: run['AP'])['name']

    def scaled(first: int) -> dict[int, float]:
        key = 'mtpd', tuple(
            ((best,), EPOCHS, 'cosine', json.dumps(
                [[f'teachers.{best}.scale', scale]])) for scale in (first, 2))
        return {s: r['AP'] for s, r in evidence.by_path.get(key, {}).items()}

    def chain(*teachers: str, student: str = 'mtpd') -> dict[int, float]:
        return evidence.aps([((t,) if t else (), EPOCHS) for t in teachers],
                            student=student)

    rows = []
    for what, direct, through in (
            ('transformer to CNN: swin > swin, resnext > swin',
             chain('swin', 'swin'), chain('resnext', 'swin')),
            (f'resolution of {best}: 2 > 2, 1 > 2', scaled(2), scaled(1)),
            (f'smaller student: {best} > {best}, resnext > {best}',
             chain(best, best, student='small'),
             chain('resnext', best, student='small')),
            (f'smaller student: alone, {best} > {best}',
             chain('', '', student='small'),
             chain(best, best, student='small'))):
        if direct and through:
            rows.append([what, _by_seed(direct), _by_seed(through),
                         _difference(through, direct)])
    if not rows:
        return '', {}
    return ('### Crossing gaps\n\n' + table(
        ['first, second', 'first', 'second', 'second minus first'], rows)), {}


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
            first, second = ({s: value(runs[i]) for s, runs in found.items()}
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
    best = evidence.costs['orders']['1'][-1]
    rows = []
    for (student, stages), runs in evidence.by_path.items():
        if len(stages) == 1 and student == 'mtpd':
            (teachers, epochs, decay, changes), = stages
            kept = {s: r for s, r in runs.items() if s != PILOT_SEED}
            if (teachers == (best,) and epochs == EPOCHS and decay == 'cosine'
                    and 'type' not in changes and 'scale' not in changes
                    and kept):
                rows.append([', '.join(
                    f'{k} {v}' for k, v in json.loads(changes))
                    or 'as in the main comparison',
                    _by_seed({s: r['AP'] for s, r in kept.items()})])
    text = '' if len(rows) < 2 else (
        f'One stage of {EPOCHS} epochs below {best}.\n\n'
        + table(['', 'AP by seed'], sorted(rows)))
    orders_of = {tuple(o): None for o in evidence.costs['orders'].values()}
    counted = [[' > '.join(o), _by_seed(evidence.aps(
        [((n,), EPOCHS) for n in o]))] for o in orders_of]
    if len([row for row in counted if row[1] != 'not run']) > 2:
        text += ('\n' * bool(text) + 'The number of teachers, so also of '
                 'epochs.\n\n' + table(['order', 'AP by seed'], counted))
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


def _number(value: float | None, form: str) -> str:
    return '' if value is None else f'{value:{form}}'


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
    mean, half = interval([of[s] - other[s] for s in shared])
    return f'{mean:+{form}}' + (
        f' ± {half:{form}}' if math.isfinite(half) else '') + \
        f', {verdict(mean, half)}'


def points(groups: Mapping[str, Sequence[float]], label: str) -> str:
    """Each value as a point, each mean as a line; SVG that is the same every
    time."""
    with matplotlib.rc_context({'svg.hashsalt': 'mtpd',
                                'svg.fonttype': 'none'}):
        figure = Figure(figsize=(7, 2.8), layout='constrained')
        axes = figure.subplots()
        for at, values in enumerate(groups.values()):
            shift = np.linspace(-.15, .15, len(values)) \
                if len(values) > 1 else np.zeros(1)
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
