"""The table about the share of the automatic weight."""
from ..design import EARLY, SHARES, WEIGHTLESS, default_with_share
from ..results import Evidence, aps_of, full_stage
from . import cells
from .cells import Results, Row

STUDENTS = {'mtpd': 'the student of the other comparisons',
            EARLY: 'the student after 6 epochs instead of 30'}


def shares(results: Results) -> str:
    """One stage with each share, where all images have labels; empty where
    nothing is run."""
    groups = {
        f'{dataset}, {text}': rows for dataset, evidence in results.items()
        for student, text in STUDENTS.items()
        if (rows := _rows(evidence, student))}
    if not groups:
        return ''
    return SETTING + cells.grouped(
        ('share', 'AP by seed', 'mean', 'minus alone'), groups) + FOLLOWS


FOLLOWS = '''
So the default is 0.5 here. Less is safer still, and was not tried with few
labels. On TXL-PBC, taught by the pretrained MobileNetV2, 0.5 ended as high as
1 with 85 labels, and 0.4 higher with all ([above](#few-labels-many-images)).
'''


SETTING = '''Shares of the automatic weight: one stage of the default,
`FeatureL2Loss(normalise=True)` with 1x1 convolutions, by the best teacher, a
two-stage detector. All images have labels, and the student inherits nothing.

'''


def _rows(evidence: Evidence, student: str) -> list[Row]:
    """Alone and with each share; none where no share was run."""
    if evidence.costs is None:
        return []
    best = (evidence.best,)
    paths = {'alone': full_stage(()) if student == 'mtpd'
             else full_stage(best, WEIGHTLESS),
             **{f'{share:g}': full_stage(best, default_with_share(share))
                for share in SHARES}}
    aps = {name: values for name, stage in paths.items() if (
        values := aps_of(evidence.by_path.get((student, (stage,)), {})))}
    if len(aps) < 2:
        return []
    return [[name, cells.by_seed(values), cells.mean(values),
             cells.difference(values, aps.get('alone', {}))
             if name != 'alone' else '']
            for name, values in aps.items()]
