"""The page's section about few labels and images without any."""
import json
from statistics import fmean
from typing import Any, Mapping, Sequence

from mtpd.order.costs import AdaptationCosts

from ..design import (ALONE, ARRIVALS, CHOICE, DIRECT, FEW_LABELS, FEWEST,
                      LABEL_ARMS, LABELS, LONGER, NOT_TAUGHT, ON_ALL, SHARE_4,
                      SPLITS, SWIN_TWICE, TAUGHT, THREE_TIMES, TWO_STAGES,
                      LabelStage)
from ..jobs.arrivals import WHO
from ..jobs.limits import STEPS
from ..results import Evidence, Run, aps_of
from ..statistics import permutation_chance, rank_correlation
from . import cells
from .cells import Row, Values

Runs = Mapping[str, Mapping[int, Run]]
"""Arm -> seed -> run; ``start`` is the student before."""


def few_labels() -> str:
    """Text and tables; empty where nothing is run."""
    parts = []
    for dataset, title in FEW_LABELS.items():
        evidence = Evidence(dataset)
        groups = {_named(student): rows for student in LABELS[dataset]
                  if (rows := _rows(runs_of(evidence, dataset, student),
                                    _controls(student)))}
        if groups:
            parts.append(_introduction(dataset, title, evidence)
                         + cells.grouped(COLUMNS, groups)
                         + _two_stages(evidence, dataset)
                         + _choice(evidence, dataset) + _limits(evidence))
    return EVERY_ARM + '\n'.join(parts) + _arrivals() if parts else ''


def gains() -> str:
    """What distillation adds where it was tried with few and many labels;
    empty where nothing is run."""
    rows = []
    for dataset, student, arm in GAINS:
        runs = runs_of(Evidence(dataset), dataset, student)
        alone, taught = aps_of(runs[ALONE]), aps_of(runs[arm])
        begun: Values = next((
            aps_of(found) for name, found in runs.items()
            if name.endswith(NOT_TAUGHT)), {})
        if alone and taught:
            rows.append([f'{dataset}, {_named(student)}: {arm}',
                         cells.mean(alone), cells.mean(begun),
                         cells.mean(taught), cells.difference(taught, alone)])
    return cells.table(('', 'alone', 'head start', 'taught',
                        'minus alone'), rows) + PAYS if rows else ''


GAINS = (('txl', FEWEST, ON_ALL), ('deeppcb', 'labels_100', ON_ALL),
         ('deeppcb', 'labels_1000', SHARE_4),
         ('deeppcb', f'labels_1000{THREE_TIMES}', SHARE_4),
         ('txl', 'labels_850', LONGER),
         ('txl', 'converged', LONGER))
PAYS = '''
A teacher pays where the student lacks labels or training, and the teacher has
had both. A student that has seen all labels for long enough gains nothing; nor
does one of all labels from a stronger teacher that began with ImageNet
weights, of another family or of its own ([below](#few-labels-many-images)).
**Head start** is the student that begins with the teacher's neck and head, as
the taught one does, and is then trained on alone.
'''


COLUMNS = ('', 'AP by seed', 'mean', 'minus alone',
           'minus taught on the labelled images')
EVERY_ARM = '''\
Every arm trains for one more stage of as many steps. Taught by a wide teacher
it begins with its neck and head. On all images, a step takes 8 without labels
beside 8 with, and the share is 4 unless it is named; on the labelled ones it
is 1.

'''


def _named(student: str) -> str:
    """What stands above its rows."""
    longer = ', a stage 3 times as long' * student.endswith(THREE_TIMES)
    name = student.removesuffix(THREE_TIMES)
    others = OTHER_STUDENTS.get(name)
    return (others or f'{name.split("_")[1]} labelled images') + longer


OTHER_STUDENTS = {
    'converged': '850 labelled images, after 16 epochs instead of 6',
    'mobile': "850 labelled images, a student of the pretrained MobileNetV2's "
              'family, a third as wide'}


def _controls(student: str) -> Sequence[str]:
    """What its arms are compared with: alone, and taught on the labelled
    images; empty if it was not."""
    return ALONE, next((arm for arm in LABEL_ARMS[student]
                        if arm.startswith(TAUGHT)), '')


def runs_of(evidence: Evidence, dataset: str, student: str) -> Runs:
    """All finished runs of a student."""
    start = evidence.by_path.get((student.removesuffix(THREE_TIMES), ()), {})
    return {'start': start,
            **_runs(evidence, student, LABELS[dataset][student],
                    LABEL_ARMS[student])}


def _runs(evidence: Evidence, student: str, epochs: int,
          arms: Mapping[str, tuple[LabelStage, ...]]) -> Runs:
    """Those of some arms."""
    runs = {}
    for arm, stages in arms.items():
        path = tuple((teachers, epochs, 'cosine', json.dumps(changes))
                     for teachers, changes in stages)
        runs[arm] = evidence.by_path.get(
            (student.removesuffix(THREE_TIMES), path), {})
    return runs


def _introduction(dataset: str, title: str, evidence: Evidence) -> str:
    aps = {run['name']: f'{run["AP"]:.1f} AP' for run in evidence.pool}
    teachers = ' '.join(text.format(aps[name])
                        for name, text in TEACHERS[dataset].items()
                        if name in aps)
    return f'**{dataset}** is {title} {teachers}\n\n'


TEACHERS = {
    'txl': {
        'wide': "The wide teacher ({}) has twice the student's width and all "
                'labels.',
        'wide_24': 'Trained for 24 epochs instead of 16, without photometric '
                   'augmentation, it has {}.',
        'pretrained_85': 'The pretrained ones are EfficientNet-Lite0 from '
                         'ImageNet weights, of 85 labels ({})',
        'pretrained': 'and of all ({}).',
        'pretrained_mobile': 'A MobileNetV2 from ImageNet weights, trained '
                             'for 24 epochs so, has {}.',
        'swin': 'The Swin transformer is from random weights ({}).'},
    'deeppcb': {
        'wide': "The wide teacher ({}) has twice the student's width and all "
                'labels, for 24 epochs.',
        'pretrained': 'The pretrained one is EfficientNet-Lite0 from ImageNet '
                      'weights ({}).'}}
"""Data set -> teacher -> what is said of it, with a place for its AP."""


def _limits(evidence: Evidence) -> str:
    """What the student knows of its own images, and of others."""
    rows = [[limit['labels'], *(f'{ap:.1f}' for ap in (
        limit['train_AP'], limit['AP'], limit['train_AP'] - limit['AP']))]
        for limit in sorted(evidence.limits, key=lambda x: x['labels'])]
    return LIMITED + cells.table(
        ('labels', 'AP on these images', 'AP on validation', 'gap'), rows
    ) + IN_WORDS if rows else ''


LIMITED = f'''
Where is the student limited? From random weights, about {STEPS} steps, one
seed:

'''
IN_WORDS = '''
With few labels it lacks what a teacher adds. With all, its size and training
limit it: a pretrained teacher 7 AP above it adds nothing.
'''


def _two_stages(evidence: Evidence, dataset: str) -> str:
    """Progression and direct distillation on all images, and alone."""
    if FEWEST not in LABELS[dataset]:
        return ''
    rows = _rows(_runs(evidence, FEWEST, LABELS[dataset][FEWEST], TWO_STAGES),
                 (ALONE, DIRECT, SWIN_TWICE))
    return TWICE + cells.table(
        (*COLUMNS[:4], 'minus the wide teacher twice', 'minus Swin twice'),
        rows) + THROUGH if rows else ''


TWICE = '''
Two such stages on all images. A step with as many images without labels
takes about twice the time: this alone also compares one stage in equal time.

'''


THROUGH = '''
The one progression that beat direct distillation is the paper's: a transformer
teaches a CNN more if another CNN has taught it before. That CNN alone, twice,
did as well.
'''


def _choice(evidence: Evidence, dataset: str) -> str:
    """Whether the cost chooses a teacher better than its AP does."""
    if len(evidence.choices) < len(SPLITS):
        return ''
    runs = runs_of(evidence, dataset, FEWEST)
    alone = aps_of(runs[ALONE])
    gains, rows = {}, []
    for name, arm in CHOICE.items():
        taught = aps_of(runs[arm])
        if not taught:
            return ''
        gains[name] = fmean(ap - alone[seed] for seed, ap in taught.items())
    by_split = {split: _costs_of(found)
                for split, found in evidence.choices.items()}
    aps = evidence.choices[SPLITS[0]]['aps']
    for name in sorted(gains, key=gains.__getitem__, reverse=True):
        rows.append([name, f'{aps[name]:.1f}', *(
            f'{by_split[split][name]:.3f}' for split in SPLITS),
            cells.difference(aps_of(runs[CHOICE[name]]), alone)])
    tried = {'the highest AP': {n: -aps[n] for n in gains},
             'the smallest cost on all images': by_split['unlabelled'],
             'the smallest on those with labels': by_split['train']}
    chosen = []
    for rule, values in tried.items():
        pairs = [(-values[name], gain) for name, gain in gains.items()]
        chosen.append([
            rule, min(gains, key=values.__getitem__),
            f'{rank_correlation(pairs):+.2f} ({permutation_chance(pairs):.2f})'
        ])
    return CHOOSES + cells.table(
        ('teacher', 'AP', 'cost on all training images',
         'on those with labels', 'gain of one stage'), rows) + '\n' \
        + cells.table(('rule', 'its teacher', 'rank correlation with the gain '
                       '(p of a random ranking)'), chosen) + CHOSEN


def _costs_of(found: Mapping[str, Any]) -> dict[str, float]:
    """Teacher -> its cost from the student over the variance of its maps."""
    costs = AdaptationCosts.from_json(found['costs'])
    student, = set(costs.names) - set(found['aps'])
    return {name: costs.normalised_cost(student, name)
            for name in found['aps']}


CHOSEN = '''
Costs on all images, most of which have no label, rank these teachers better
than their APs do, though five teachers prove nothing. By it the pretrained
ones, whose features are far from the student's, come last in spite of their
APs.
'''
CHOOSES = f'''
Does the cost choose a teacher better than its AP does? Costs from the student
with {FEWEST.split("_")[1]} labels (seed 0) are over the variance of the
teacher's maps. The gain is that of one stage on all images; taught by a wide
teacher, it begins with that one's neck and head.

'''


def _arrivals() -> str:
    """What of some teachers arrives; empty where it was not measured."""
    rows = []
    measured = [(dataset, *one) for dataset, arms in ARRIVALS.items()
                for one in arms]
    for dataset, student, arm in measured:
        evidence = Evidence(dataset)
        run = runs_of(evidence, dataset, student)[arm].get(0)
        if run is None or run['name'] not in evidence.arrivals:
            continue
        found = evidence.arrivals[run['name']]
        rows.append([
            f'{dataset}, {_named(student)}: {arm}', *(
                ', '.join(f'{100 * found[split]["not_matched"][stride]:.0f}'
                          for stride in found[split]['not_matched'])
                for split in ('training', 'validation')),
            *(f'{found["validation"][who]:.1f}' for who in WHO)])
    return ARRIVES + cells.table(ARRIVAL_COLUMNS, rows) \
        + ARRIVES_IN_WORDS if rows else ''


ARRIVAL_COLUMNS = (
    '', 'not matched, training images', 'validation images', 'AP, teacher',
    "its head on the student's maps", 'student')
ARRIVES = '''
What arrives? Squared distance of the student's maps from the teacher's in
percent of their variance, from stride 8 to 128, one seed:

'''
ARRIVES_IN_WORDS = '''
About as much stays unmatched on other images: the student's size and training
are the limit, not the number of images. Of a pretrained teacher's finest map a
third stays, also where it is of the student's own family. The gradient's share
is at any time the one that is set, as the automatic weight follows it.
'''


def _rows(runs: Runs, controls: Sequence[str]) -> list[Row]:
    """Arms that were run.

    Args:
        controls: Arms; each row has its difference from every one of them
            that is listed before it. An empty name leaves its cells empty.
    """
    aps: dict[str, Values] = {arm: aps_of(found)
                              for arm, found in runs.items() if found}
    rows: list[Row] = []
    for arm, values in aps.items():
        place = list(runs).index(arm)
        compared = [
            cells.difference(values, aps.get(control, {}))
            if control and place > list(runs).index(control) else ''
            for control in controls]
        rows.append([arm, cells.by_seed(values), cells.mean(values),
                     *compared])
    return rows
