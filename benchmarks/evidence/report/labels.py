"""The page's section about few labels and images without any."""
import json
from typing import Mapping

from ..design import ALONE, FEW_LABELS, LABEL_ARMS, LABELS, TAUGHT
from ..results import Evidence, Run, aps_of
from . import cells
from .cells import Row, Values

Runs = Mapping[str, Mapping[int, Run]]
"""Arm -> seed -> run; ``start`` is the student before."""


def few_labels() -> str:
    """Text and table; empty where nothing is run."""
    parts = []
    for dataset, title in FEW_LABELS.items():
        evidence = Evidence(dataset)
        groups = {f'{student.split("_")[1]} labelled images': rows
                  for student in LABELS
                  if (rows := _rows(runs_of(evidence, student)))}
        if groups:
            parts.append(_introduction(dataset, title, evidence)
                         + cells.grouped(COLUMNS, groups))
    return '\n'.join(parts)


COLUMNS = ('', 'AP by seed', 'mean', 'minus alone',
           'minus taught on the labelled images')


def runs_of(evidence: Evidence, student: str) -> Runs:
    """All finished runs of a student."""
    runs = {'start': evidence.by_path.get((student, ()), {})}
    for arm, (teachers, changes) in LABEL_ARMS[student].items():
        stage = tuple(teachers), LABELS[student], 'cosine', json.dumps(changes)
        runs[arm] = evidence.by_path.get((student, (stage,)), {})
    return {arm: by_seed for arm, by_seed in runs.items() if by_seed}


def _introduction(dataset: str, title: str, evidence: Evidence) -> str:
    aps = {run['name']: f'{run["AP"]:.1f} AP' for run in evidence.pool}
    teachers = ' '.join(text.format(aps[name])
                        for name, text in TEACHERS.items() if name in aps)
    return (f'**{dataset}** is {title} {teachers} Every arm trains for one '
            'more stage of as many steps with the default mechanism; taught '
            "by the wide teacher it begins with this one's neck and head. On "
            'all images, each step takes 8 without labels beside 8 with. The '
            'share of the gradient is 1, on all images 4, unless it is '
            'named.\n\n')


TEACHERS = {
    'wide': "The wide teacher ({}) has twice the student's width and was "
            'trained on all labels.',
    'pretrained_85': 'The pretrained one ({}) is an EfficientNet-Lite0 from '
                     "ImageNet weights, trained on the student's 85 labels.",
    'pretrained': 'A pretrained one of all labels has {}.'}
"""Teacher -> what is said of it, with a place for its AP."""


def _rows(runs: Runs) -> list[Row]:
    aps: dict[str, Values] = {arm: aps_of(found)
                              for arm, found in runs.items()}
    rows: list[Row] = []
    for arm, values in aps.items():
        compared = [
            cells.difference(values, aps.get(other, {}))
            if arm not in ('start', *shown) else ''
            for other, shown in ((ALONE, (ALONE,)),
                                 (TAUGHT, (ALONE, TAUGHT)))]
        rows.append([arm, cells.by_seed(values), cells.mean(values),
                     *compared])
    return rows
