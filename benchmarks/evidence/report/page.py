"""The page: its head, the summary, and a section for each comparison."""
import math
from pathlib import Path
from typing import Callable, Mapping

from ..design import ASSUMED_DEVIATION, DATASETS, GENTLE
from ..predictors import choices_right
from ..results import Evidence
from ..statistics import smallest_difference
from . import cells
from .cells import Section
from .orders import differ, orders
from .predictions import predictions
from .settings import gaps, mechanisms, sweeps, why
from .students import main_comparison, pilot, pool

PAGE = Path(__file__).resolve().parents[3] / 'docs' / 'results.md'

SECTIONS: Mapping[str, Callable[[Evidence], Section]] = {
    '': pool, 'pilot': pilot, 'main comparison': main_comparison,
    'orders': orders, 'does the cost predict the AP?': predictions,
    'mechanisms': mechanisms, 'crossing gaps': gaps, 'why': why,
    'sweeps': sweeps}


def write(page: Path = PAGE) -> None:
    """The page, and its plots in a folder of the same name beside it."""
    text, plots = compose()
    page.write_text(text)
    folder = page.with_suffix('')
    folder.mkdir(exist_ok=True)
    for name, svg in plots.items():
        (folder / name).write_text(svg)


def compose() -> Section:
    """The page's text and its plots as SVG, by file name."""
    results = {dataset: evidence for dataset in DATASETS
               if (evidence := Evidence(dataset)).runs}
    parts, plots = [HEAD, summary(results), METHOD], {}
    for dataset, title in DATASETS.items():
        parts.append(f'## {dataset}\n\n{title}\n')
        if dataset not in results:
            parts.append('Not run.\n')
            continue
        missing = []
        for name, section in SECTIONS.items():
            text, section_plots = section(results[dataset])
            if text:
                parts.append(text)
            elif name:
                missing.append(name)
            plots.update(section_plots)
        if missing:
            parts.append(f'### Not run on {dataset}\n\n'
                         + '; '.join(missing) + '.\n')
        parts.append(runs_made_with(results[dataset]))
    return '\n'.join(parts), plots


HEAD = '''<!-- Written by benchmarks/evidence.py --report from the results;
change the program, not this page. -->
# Does it help, and does the order matter?

```
python benchmarks/evidence.py --budget full --jobs 2
python benchmarks/evidence.py --report
```

Small detectors, trained from random weights on small data sets: not the
paper's setting (detectors pretrained on COCO), but one that anybody can
repeat. `--budget small` runs the pilot, the main comparison, the orders and
the cost with 3 seeds.
'''
METHOD = f'''## How it was measured

AP is box AP in percent on the validation split, after the last epoch of each
training. The same split determined which teacher is the best and which weight
the pilot preferred. "Trained on alone" means that the student trains for the
same number of epochs without a teacher. A seed changes the first weights, the
order and augmentation of images, and sampling. All arms of a seed start from
the same student, so differences are paired by seed; ± is half of a 95%
interval (Student's t over seeds, at least as wide as rounding to 0.1 AP makes
it). The teachers are the same for all seeds, so no interval covers the choice
of teachers. Distillation is `FeatureL2Loss` with `normalise=True` unless
stated otherwise. Its weight is that of configs/evidence, from a pilot on a
seed that no comparison uses. The raw results, with config, seed, versions and
time, are in [benchmarks/evidence](../benchmarks/evidence), one a line.

**Detectable differences** were stated before the first run of a comparison.
If the standard deviation of a paired difference is {ASSUMED_DEVIATION} AP,
which we assumed, 3 seeds detect differences of {smallest_difference(3):.1f} AP
and more, and 5 seeds of {smallest_difference(5):.1f} AP and more (four times
in five, at the 5% level). The measured deviations are given below. A
difference whose interval contains zero is called noise, whatever its sign;
about one interval in twenty excludes zero by chance. The main question is one
comparison: the progression against direct distillation from the best teacher.
'''


def summary(results: Mapping[str, Evidence]) -> str:
    """The first questions, on all data sets."""
    columns = [_answers(evidence) for evidence in results.values()]
    rows = [[question, *(answers[question] or 'not run'
                         for answers in columns)]
            for question in QUESTIONS]
    return '## In short\n\nBox AP.\n\n' + cells.table(['', *results], rows)


QUESTIONS = (
    'distillation from the best teacher, minus trained on alone',
    'progression, minus trained on alone',
    'progression, minus directly from the best teacher',
    'do orders of two teachers differ by more than seeds do?',
    'the same, with a fifth of the weight',
    'of two predecessors, the one with the smaller cost is better in')


def _answers(evidence: Evidence) -> dict[str, str]:
    """Question -> answer, empty where it was not run."""
    aps = {arm: evidence.aps(stages)
           for arm, stages in evidence.arms.items()}
    direct, progression = (aps.get(arm, {})
                           for arm in ('direct', 'progression'))
    share, chance = choices_right(evidence, 2, 'cost', -1)
    return dict(zip(QUESTIONS, (
        cells.difference(direct, aps['alone']),
        cells.difference(progression, aps['alone']),
        cells.difference(progression, direct),
        differ(evidence, ()), differ(evidence, GENTLE),
        '' if math.isnan(share) else f'{share:.0%}, {cells.chance(chance)}'),
        strict=True))


def runs_made_with(evidence: Evidence) -> str:
    """Versions, hardware and time of all trainings."""
    everything = [*evidence.runs, *evidence.pool]
    environments = set()
    for run in everything:
        made_with = run['made_with']
        libraries = ', '.join(
            f'{name} {version}' for name, version in made_with.items()
            if name not in ('device', 'threads', 'hardware'))
        environments.add(f'{libraries}; {made_with["hardware"]}, '
                         f'{made_with["threads"]} thread(s)')
    minutes = sum(run['minutes'] for run in everything)
    return (f'{len(evidence.pool)} trainings of a teacher and '
            f'{len(evidence.runs)} of a student or a stage, '
            f'{minutes:.0f} minutes of all processes together: '
            + ' and '.join(sorted(environments)) + '.\n')
