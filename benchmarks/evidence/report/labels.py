"""The page's section about few labels and images without any."""
import json
from typing import Mapping, Sequence

from ..design import (ALONE, DIRECT, FEW_LABELS, FEWEST, LABEL_ARMS, LABELS,
                      TAUGHT, TWO_STAGES, LabelStage)
from ..jobs.limits import STEPS
from ..results import Evidence, Run, aps_of
from . import cells
from .cells import Row, Values

Runs = Mapping[str, Mapping[int, Run]]
"""Arm -> seed -> run; ``start`` is the student before."""


def few_labels() -> str:
    """Text and tables; empty where nothing is run."""
    parts = []
    for dataset, title in FEW_LABELS.items():
        evidence = Evidence(dataset)
        groups = {f'{student.split("_")[1]} labelled images': rows
                  for student in LABELS
                  if (rows := _rows(runs_of(evidence, student),
                                    (ALONE, TAUGHT)))}
        if groups:
            parts.append(_introduction(dataset, title, evidence)
                         + cells.grouped(COLUMNS, groups)
                         + _two_stages(evidence) + _limits(evidence))
    return '\n'.join(parts)


COLUMNS = ('', 'AP by seed', 'mean', 'minus alone',
           'minus taught on the labelled images')


def runs_of(evidence: Evidence, student: str) -> Runs:
    """All finished runs of a student."""
    return {'start': evidence.by_path.get((student, ()), {}),
            **_runs(evidence, student, LABEL_ARMS[student])}


def _runs(evidence: Evidence, student: str,
          arms: Mapping[str, tuple[LabelStage, ...]]) -> Runs:
    """Those of some arms."""
    runs = {}
    for arm, stages in arms.items():
        path = tuple((teachers, LABELS[student], 'cosine', json.dumps(changes))
                     for teachers, changes in stages)
        runs[arm] = evidence.by_path.get((student, path), {})
    return runs


def _introduction(dataset: str, title: str, evidence: Evidence) -> str:
    aps = {run['name']: f'{run["AP"]:.1f} AP' for run in evidence.pool}
    teachers = ' '.join(text.format(aps[name])
                        for name, text in TEACHERS.items() if name in aps)
    return (f'**{dataset}** is {title} {teachers} Every arm trains for one '
            'more stage of as many steps; taught by the wide teacher it '
            'begins with its neck and head. On all images, a step takes 8 '
            'without labels beside 8 with, and the share is 4 unless it is '
            'named.\n\n')


TEACHERS = {
    'wide': "The wide teacher ({}) has twice the student's width and all "
            'labels.',
    'pretrained_85': 'The pretrained ones are EfficientNet-Lite0 from '
                     'ImageNet weights, of 85 labels ({})',
    'pretrained': 'and of all ({}).'}
"""Teacher -> what is said of it, with a place for its AP."""


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


def _two_stages(evidence: Evidence) -> str:
    """Progression and direct distillation on all images, and alone."""
    rows = _rows(_runs(evidence, FEWEST, TWO_STAGES), (ALONE, DIRECT))
    return TWICE + cells.table(
        (*COLUMNS[:4], 'minus direct'), rows) if rows else ''


TWICE = '''
Two such stages on all images. A step with as many images without labels
takes about twice the time: this alone also compares one stage in equal time.

'''


def _rows(runs: Runs, controls: Sequence[str]) -> list[Row]:
    """Arms that were run.

    Args:
        controls: Arms; each row has its difference from every one of them
            that is listed before it.
    """
    aps: dict[str, Values] = {arm: aps_of(found)
                              for arm, found in runs.items() if found}
    rows: list[Row] = []
    for arm, values in aps.items():
        place = list(runs).index(arm)
        compared = [
            cells.difference(values, aps.get(control, {}))
            if place > list(runs).index(control) else ''
            for control in controls]
        rows.append([arm, cells.by_seed(values), cells.mean(values),
                     *compared])
    return rows
