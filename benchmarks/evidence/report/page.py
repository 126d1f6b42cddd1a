"""The page: its head, the summary, and a section for each comparison."""
import math
from pathlib import Path
from typing import Any, Callable, Mapping

from ..design import ASSUMED_DEVIATION, DATASETS, GENTLE
from ..predictors import choices_right
from ..results import Evidence
from ..statistics import smallest_difference
from . import cells
from .cells import Results, Section
from .labels import few_labels, gains
from .orders import differ, orders
from .predictions import predictions
from .settings import gaps, mechanisms, sweeps, why
from .students import main_comparison, pool

PAGE = Path(__file__).resolve().parents[3] / 'docs' / 'results.md'

SECTIONS: Mapping[str, Callable[[Results], Section]] = {
    'The pool': pool, 'Main comparison': main_comparison,
    'Orders': orders, 'Does the cost predict the AP?': predictions,
    'Mechanisms': mechanisms, 'Crossing gaps': gaps, 'Why': why,
    'Sweeps': sweeps}


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
    labels = few_labels()
    parts, plots = [
        HEAD, f'## What pays\n\n{gains()}',
        f'## Few labels, many images\n\n{labels}'] if labels else [HEAD], {}
    parts += [summary(results), METHOD, data(results)]
    for title, section in SECTIONS.items():
        text, section_plots = section(results)
        parts.append(f'## {title}\n\n{text or NOT_RUN}')
        plots.update(section_plots)
    return '\n'.join(parts), plots


NOT_RUN = 'Not run.\n'
HEAD = '''<!-- Written by benchmarks/evidence.py --report; change that. -->
# Does it help, and does the order matter?

```
python benchmarks/evidence.py --budget full --jobs 2
python benchmarks/evidence.py --report
```

We trained small detectors from random weights on small data sets, not the
paper's detectors pretrained on COCO.
'''
METHOD = f'''## How to read this page

- **AP** is box AP in percent on the validation split after the last epoch.
  That split also determined the best teacher and the weight.
- **Alone** means as many epochs without a teacher, **direct** the best teacher
  in every stage, **progression** the order found for at most 2 teachers.
- **A seed** changes first weights, images' order and augmentation, and
  sampling. All arms of a seed start from one student. No interval covers the
  choice of teachers.
- **+0.7±0.2** is a mean difference, paired by seed, and half of its 95%
  interval (Student's t, rounding to 0.1 AP included). **Bold** intervals
  exclude zero, which one in twenty does by chance; all others are noise. Fewer
  than 3 seeds have no interval.
- **Detectable differences**, stated before the first run (assumed standard
  deviation {ASSUMED_DEVIATION} AP; four times in five, at the 5% level): 3
  seeds {smallest_difference(3):.1f} AP, 5 seeds {smallest_difference(5):.1f}
  AP.
- **Distillation** is `FeatureL2Loss` with `normalise=True` and the weight of
  configs/evidence unless stated. **distill_ratio** is distillation over
  detection loss in the last epoch of the first seed.
- [benchmarks/evidence](../benchmarks/evidence) has all results, by seed.
'''


def summary(results: Results) -> str:
    """The first questions, on all data sets."""
    columns = [_answers(evidence) for evidence in results.values()]
    rows = [[question, *(answers[question] or 'not run'
                         for answers in columns)]
            for question in QUESTIONS]
    return '## In short\n\n' + cells.table(['', *results], rows)


QUESTIONS = (
    'direct distillation from the best teacher, minus trained on alone',
    'progression, minus trained on alone', 'progression, minus direct',
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
        cells.difference_in_words(direct, aps['alone']),
        cells.difference_in_words(progression, aps['alone']),
        cells.difference_in_words(progression, direct),
        differ(evidence, ()), differ(evidence, GENTLE),
        '' if math.isnan(share) else f'{share:.0%}, {cells.chance(chance)}'),
        strict=True))


def data(results: Results) -> str:
    """The data sets; versions, hardware and time of all trainings."""
    lines, environments = [], set()
    for dataset, title in DATASETS.items():
        if dataset not in results:
            lines.append(f'- **{dataset}**: {title} {NOT_RUN}')
            continue
        evidence = results[dataset]
        everything = [*evidence.runs, *evidence.pool]
        minutes = sum(run['minutes'] for run in everything)
        lines.append(
            f'- **{dataset}**: {title} {len(evidence.pool)} teachers and '
            f'{len(evidence.runs)} students or stages took {minutes:.0f} '
            'process minutes.\n')
        environments |= {_environment(run['made_with']) for run in everything}
    made_with = ' and '.join(sorted(environments)) or 'nothing yet'
    return f'## Data and runs\n\n{"".join(lines)}\nMade with {made_with}.\n'


def _environment(made_with: Mapping[str, Any]) -> str:
    libraries = ', '.join(
        f'{name} {version}' for name, version in made_with.items()
        if name not in ('device', 'threads', 'hardware'))
    return (f'{libraries}; {made_with["hardware"]}, '
            f'{made_with["threads"]} thread(s)')
