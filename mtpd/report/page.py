"""One page about a progression: a file that needs no other and no network."""
import base64
import os
import shlex
import tempfile
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

from jinja2 import Environment, StrictUndefined  # torch depends on it

from mtpd.distill.auto_weight import is_disabled
from mtpd.progression.history import (COLUMNS, History, StageHistory,
                                      stage_teachers)
from mtpd.search.found_order import FoundOrder
from mtpd.show.charts import draw_order
from mtpd.show.cost_text import cost_text, legend, share_text

from .curves import Chart, curve_charts
from .detectors import Facts
from .examples import SCORE, Examples, View

NOTHING = '–'
"""What stands where nothing is known."""
_PARTS = {'plan': 'Plan', 'order': 'Order', 'curves': 'Curves',
          'stages': 'AP', 'detectors': 'Detectors', 'images': 'Images',
          'made': 'How it was made'}


class Table(NamedTuple):
    """A table of the page.

    Attributes:
        caption: Above it.
        columns: Their names; none for a table without a head.
        rows: Cells as text; the first names its row.
        words: Whether cells are words rather than numbers.
    """
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: bool = False


def page(history: History, facts: Facts, examples: Examples,
         now: datetime) -> str:
    """The page as HTML; every text on it is escaped.

    Args:
        history: What the progression's folder says.
        facts: Student and teachers beside each other.
        examples: Images, none where they are not wanted.
        now: When this is said.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters.update(data=_data, boxes=_boxes)
    template = environment.from_string(
        Path(__file__).with_name('page.html').read_text(encoding='utf-8'))
    folder = os.path.basename(os.path.abspath(history.plan.work_dir))
    curves = curve_charts(history, facts.aps())
    found = history.found
    return template.render(
        title=f'Progression {folder}', state=_state(history, now),
        summary=_summary(history, facts), parts=_PARTS.items(),
        plan=history.plan.describe(), order=_order(history),
        graph=_graph(found) if found else None,
        reasons=_reasons(found) if found else (),
        costs=_cost_table(found) if found else None,
        cost_notes=_cost_notes(found) if found else (),
        curves=curves, curve_notes=_curve_notes(history),
        stages=_stage_table(history, facts), stage_notes=_stage_notes(history),
        detectors=_detector_table(history, facts),
        detector_notes=_detector_notes(facts),
        examples=examples.images, example_notes=_example_notes(examples),
        made=_made_table(history), starts=_start_table(history),
        made_notes=_made_notes(history))


def _data(content: bytes, kind: str) -> str:
    return f'data:image/{kind};base64,' + base64.b64encode(content).decode()


def _boxes(view: View) -> str:
    """An image's boxes in words."""
    boxes = ', '.join(box.describe() for box in view.boxes)
    return f'{view.title}: {boxes or "no box"}'


def _state(history: History, now: datetime) -> str:
    when = f' This page was written on {now:%Y-%m-%d at %H:%M}.'
    if history.order is None:
        return 'Not begun: there is no order yet.' + when
    if history.finished:
        return f'Finished: {_count(len(history.order), "stage")}.' + when
    if not history.stages:
        return (f'Not begun: none of {_count(len(history.order), "stage")} '
                'has started.' + when)
    done = sum(s.end is not None for s in history.stages)
    stage = history.stages[-1]
    if stage.end is not None:
        return (f'Unfinished: {done} of {_count(len(history.order), "stage")}'
                ' are done, the next has not started.' + when)
    return (f'Unfinished: stage {stage.index} of {len(history.order)} '
            f'({stage.teacher}) is at iteration {stage.length}.' + when)


def _count(number: int, what: str) -> str:
    return f'{number} {what}' + ('' if number == 1 else 's')


def _start_ap(history: History, facts: Facts) -> float | None:
    if history.start_ap is None and \
            history.start == history.plan.student.checkpoint:
        return facts.aps().get('student')
    return history.start_ap


def _summary(history: History, facts: Facts) -> list[tuple[str, str]]:
    aps = [v.aps['AP'] for s in history.stages for v in s.validations
           if 'AP' in v.aps]
    ends = [s.end for s in history.stages if s.end is not None]
    known = ends if history.finished else aps or ends
    now = known[-1] if known else None
    start = _start_ap(history, facts)
    parameters = facts.detectors[0].parameters
    return [
        ('student before, box AP', _number(start)),
        ('student now, box AP' if not history.finished else
         'student after, box AP', _number(now)),
        ('gain', NOTHING if now is None or start is None
         else f'{now - start:+.1f}'),
        ('order', ' > '.join(history.order or ()) or NOTHING),
        ('parameters', _millions(parameters))]


def _number(value: float | None, form: str = '.1f') -> str:
    return NOTHING if value is None else format(value, form)


def _millions(parameters: int) -> str:
    return f'{parameters / 1e6:.2f} M'


def _order(history: History) -> str:
    if history.plan.order is not None:
        return ('Given in the config (mtpd.order), not found by costs: '
                + ' > '.join(history.order or ()) + '.')
    if history.found is None:
        return ('To be found by Backward Greedy Selection from adaptation '
                'costs; ' + ('its costs are no longer there. It was '
                             + ' > '.join(history.order) + '.'
                             if history.order else 'not done yet.'))
    return ('Found by Backward Greedy Selection from adaptation costs: '
            + ' > '.join(history.found.order.teachers) + '.')


def _graph(found: FoundOrder) -> Chart:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'graph.png')
        draw_order(found.costs, found.aps, found.order, path,
                   found.latencies, found.student_ap)
        png = Path(path).read_bytes()
    chain = [found.student, *found.order.teachers]
    return Chart(
        'Cost graph', 'Graph of adaptation costs. The chosen path: '
        + ', '.join(f'{a} to {b} {cost_text(found.costs, a, b, 3)}'
                    for a, b in pairwise(chain))
        + '. All costs stand in the table below.', png)


def _reasons(found: FoundOrder) -> list[str]:
    return [step.reason + (f' ({decision.describe()})'
                           if decision.compared else '')
            for step, decision in zip(found.order.steps, found.decisions(),
                                      strict=True)]


def _cost_table(found: FoundOrder) -> Table:
    costs = found.costs
    strides = ', '.join(map(str, costs.strides))
    return Table(
        'Adaptation cost from row to column, mean squared error in squared '
        f'units of the target\'s maps, strides {strides}; in brackets, its '
        "share of the target's variance", ['from \\ to', *costs.names],
        [[source, *(NOTHING if source == target else
                    f'{cost_text(costs, source, target)} '
                    f'({share_text(costs, source, target)})'
                    for target in costs.names)] for source in costs.names])


def _cost_notes(found: FoundOrder) -> list[str]:
    images = found.made_with.get('pictures')
    notes = ['Costs of one column compare; those of different columns are in '
             'different units, only their shares compare.']
    if isinstance(images, int):
        notes.append(f'Measured on {_count(images, "image")}.')
    return notes + [n for n in [legend(_cost_table(found).rows).strip()] if n]


def _curve_notes(history: History) -> list[str]:
    if not history.stages:
        return ['No stage has begun.']
    if not any(s.lines or s.validations for s in history.stages):
        return ['The stages have logged nothing that can be drawn: their '
                'folders hold no <start>/vis_data/scalars.json. The config '
                'needs a visualizer with LocalVisBackend.']
    notes = [] if any(s.validations for s in history.stages) else \
        ['There was no validation yet.']
    if any(s.lines for s in history.stages):
        notes.append(
            'Losses are as logged: means over the last iterations. '
            'Detection + distillation is what is trained on.')
    if is_disabled(history.plan.distill):
        notes.append('mtpd.distill has loss_weight 0: no teacher took part.')
    return notes


def _stage_table(history: History, facts: Facts) -> Table:
    start = _start_ap(history, facts)
    rows = [['start', NOTHING, _number(start), *[NOTHING] * 5, NOTHING,
             NOTHING, NOTHING]]
    for stage in history.stages:
        rows.append(_stage_row(stage, start if stage.index == 1
                               else stage.start))
    for index, teacher in enumerate(history.order or (), 1):
        if index > len(history.stages):
            rows.append([f'{index} {teacher}', 'not begun',
                         *[NOTHING] * (len(COLUMNS) + 3)])
    return Table(
        'In percent, at the last validation of each stage',
        ['stage, teacher', 'validated after', *COLUMNS, 'handed on', 'gain',
         'minutes'], rows)


def _stage_row(stage: StageHistory, start: float | None) -> list[str]:
    when = 'not yet'
    aps: Mapping[str, float] = {}
    if stage.validations:
        last = stage.validations[-1]
        aps = last.aps
        when = f'iteration {last.iteration}'
    end, seconds = stage.end, stage.seconds
    return [f'{stage.index} {stage.teacher}', when,
            *(_number(aps.get(column)) for column in COLUMNS),
            _number(end),
            NOTHING if end is None or start is None else f'{end - start:+.1f}',
            _number(None if end is None or seconds is None
                    else seconds / 60)]


def _stage_notes(history: History) -> list[str]:
    return [
        'Small, medium and large are AP of objects of up to 32x32, up to '
        '96x96 and more pixels (COCO). '
        f'{NOTHING}: not known, or no object of this size.',
        'Handed on: box AP of the weights that the next stage starts from '
        f'(mtpd.handover={history.plan.handover!r}). Gain: from the stage\'s '
        'start to what it handed on.']


def _detector_table(history: History, facts: Facts) -> Table:
    stage_of = {}
    for index, label in enumerate(history.order or (), 1):
        for name in stage_teachers(label, history.plan):
            stage_of[name] = f'stage {index}'
    rows = []
    for detector in facts.detectors:
        role = 'student' if detector.name == 'student' else stage_of.get(
            detector.name, 'not chosen' if history.order else NOTHING)
        rows.append([
            detector.name, role,
            _number(detector.ap) + (' (declared)' if detector.declared
                                    else ''),
            _millions(detector.parameters),
            NOTHING if detector.seconds is None else
            f'{1000 * detector.seconds:.1f} ms'])
    return Table('Student (before) and teachers',
                 ['detector', 'role', 'box AP, %', 'parameters', 'latency'],
                 rows)


def _detector_notes(facts: Facts) -> list[str]:
    where = [] if facts.machine is None else [
        f'Latency: of one image in a batch of one, on {facts.machine}; '
        'median of 5. The student keeps its size and its speed.']
    return where + [f'Left out: {why}' for why in facts.left_out]


def _example_notes(examples: Examples) -> list[str]:
    notes = [f'Left out: {why}' for why in examples.left_out]
    if examples.images:
        notes.insert(0, 'Evenly spread over the validation set. Boxes scored '
                     f'{SCORE:g} or more, at most 30.')
    return notes or ['None were asked for.']


def _made_table(history: History) -> Table:
    record = history.record
    identity = record.get('identity', {})
    seed = record.get('seed', history.plan.student.config.get(
        'randomness', {}).get('seed'))
    rows = [['seed', NOTHING if seed is None else str(seed)],
            ['work dir', history.plan.work_dir],
            ['versions', _versions(record.get('versions', {}))],
            ['student', _checkpoint(history.plan.student.checkpoint,
                                    identity.get('student'))]]
    hashes = identity.get('teachers', {})
    return Table('What went into it', (), rows + [
        [f'teacher {name}', _checkpoint(teacher.checkpoint, hashes.get(name))]
        for name, teacher in history.plan.teachers.items()], words=True)


def _checkpoint(path: str | None, digest: str | None) -> str:
    if path is None:
        return 'its own initialisation'
    return path + (f', SHA-256 {digest}' if digest else '')


def _versions(versions: Mapping[str, Any]) -> str:
    return ', '.join(f'{name} {version}' for name, version
                     in versions.items()) or NOTHING


def _start_table(history: History) -> Table | None:
    starts = history.record.get('starts')
    if not starts:
        return None
    return Table(
        'Every start', ['time', 'command', 'resumed', 'processes', 'git',
                        'versions'],
        [[str(start.get('time', NOTHING)),
          shlex.join(map(str, start.get('command', ()))) or NOTHING,
          {True: 'yes', False: 'no'}.get(start.get('resume'), NOTHING),
          str(start.get('processes', NOTHING)),
          str(start.get('git') or NOTHING)[:12],
          _versions(start.get('versions', {}))] for start in starts],
        words=True)


def _made_notes(history: History) -> list[str]:
    if not history.record:
        return ['There is no progression.json: the stages have not begun.']
    return [] if history.record.get('starts') else [
        'Commands, times and git hashes of the starts were not recorded by '
        'the version that this was run with.']
