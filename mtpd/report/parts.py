"""The parts of the page: their tables, charts and notes."""
import os
import shlex
import tempfile
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Mapping, Sequence

from mtpd.analysis.variants_table import read_variants, variants_table
from mtpd.plan.plan import stage_teachers
from mtpd.progression.control import gain_of
from mtpd.progression.history import History
from mtpd.progression.pool_training import retraining
from mtpd.search.found_order import FoundOrder
from mtpd.show.charts import draw_order
from mtpd.show.cost_text import cost_text
from mtpd.show.detector_aps import weaker_teachers
from mtpd.show.tables import (Table, ap_text, cost_table, gain, number,
                              stage_cells)
from mtpd.stage.log import COLUMNS

from .curves import ALONE, Chart, curve_charts
from .detectors import Facts
from .examples import MAX_BOXES, SCORE, Example, Examples


@dataclass(frozen=True)
class Part:
    """A part of the page; what is empty is left out.

    Attributes:
        name: By which links lead to it.
        link: The text of the link.
        heading: Above it.
        plan: Shown as it is, with its line breaks.
        text: A paragraph.
        charts: Below the paragraph.
        points: Items of a list.
        tables: Below the list.
        examples: Images with boxes.
        notes: Small print, a paragraph each.
    """
    name: str
    link: str
    heading: str
    plan: str = ''
    text: str = ''
    charts: Sequence[Chart] = ()
    points: Sequence[str] = ()
    tables: Sequence[Table] = ()
    examples: Sequence[Example] = ()
    notes: Sequence[str] = ()


def state(history: History, now: datetime) -> str:
    """How far the progression is, and when the page was written."""
    order, stages = history.order, history.stages
    if order is None:
        text = 'Not begun: there is no order yet.'
    elif history.finished:
        text = f'Finished: {_count(len(order), "stage")}.'
    elif not stages:
        text = f'Not begun: none of {_count(len(order), "stage")} has started.'
    elif stages[-1].finished:
        finished = sum(stage.finished for stage in stages)
        text = (f'Unfinished: {finished} of {_count(len(order), "stage")} '
                'are finished, the next has not started.')
    else:
        text = (f'Unfinished: stage {stages[-1].index} of {len(order)} '
                f'({stages[-1].teacher}) is at iteration '
                f'{stages[-1].length}.')
    text += history.describe_gone()
    return f'{text} This page was written on {now:%Y-%m-%d at %H:%M}.'


def summary(history: History,
            facts: Facts) -> list[tuple[str, str | None]]:
    """Names and values at the top of the page."""
    when = 'after' if history.finished else 'now'
    order = ' > '.join(history.order or ())
    values = [('student before, box AP', number(_start_ap(history, facts))),
              (f'student {when}, box AP', number(history.present_ap))]
    compared = gain_of(history)
    if compared is not None:
        after = '' if compared.last else f' after stage {compared.stage}'
        values += [(f'{ALONE}{after}', number(compared.control_ap)),
                   (f'gain of distillation{after}',
                    number(compared.value, '+.1f'))]
    elif history.plan.distils:
        values.append(('gain of distillation', 'not known'))
    return [*values, ('order', order or None),
            ('parameters', _millions(facts.detectors[0].parameters))]


def warnings(history: History, facts: Facts) -> list[str]:
    """What has to be known before anything else on the page."""
    aps: dict[str, float | None] = {**facts.aps()}
    student = aps.pop('student', None)
    start = _start_ap(history, facts)
    return weaker_teachers(student if start is None else start, aps,
                           retraining(history.plan)) \
        if history.plan.distils else []


def order_part(history: History) -> Part:
    """The order, and if it was found by costs, how it came about."""
    found = history.found
    order = ' > '.join(history.order or ())
    method = 'by Backward Greedy Selection from adaptation costs'
    if history.plan.order is not None:
        text = f'Given in the config (mtpd.order), not found by costs: {order}'
    elif found is not None:
        text = f'Found {method}: ' + ' > '.join(found.order.teachers)
    elif order:
        text = f'Found {method}, which are no longer in the work dir: {order}'
    else:
        text = f'To be found {method}; not done yet'
    charts, reasons, tables, notes = [], [], [], []
    if found is not None:
        for decision in found.decisions():
            certainty = f' ({decision.describe()})' if decision.compared \
                else ''
            reasons.append(decision.step.reason + certainty)
        charts.append(_cost_graph(found))
        tables.append(cost_table(found.costs))
        notes.append("Costs are mean squared errors in squared units of the "
                     "target's maps: compare only those of one column. Shares "
                     'compare between columns.')
        images = found.made_with.get('pictures')
        if isinstance(images, int):
            notes.append(f'Measured on {_count(images, "image")}.')
        notes += tables[0].notes
    return Part('order', 'Order', 'Order of the teachers', text=f'{text}.',
                charts=charts, points=reasons, tables=tables, notes=notes)


def _cost_graph(found: FoundOrder) -> Chart:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'graph.png')
        draw_order(found.costs, found.aps, found.order, path,
                   found.latencies, found.student_ap)
        png = Path(path).read_bytes()
    links = []
    for source, target in pairwise([found.student, *found.order.teachers]):
        cost = cost_text(found.costs, source, target, 3)
        links.append(f'{source} to {target} {cost}')
    return Chart('Cost graph', 'Graph of adaptation costs. The chosen path: '
                 f'{", ".join(links)}. The table below has all costs.', png,
                 wide=False)


def curves_part(history: History, facts: Facts) -> Part:
    """AP, losses and learning rate over the iterations."""
    notes = []
    logged = any(stage.lines for stage in history.stages)
    validated = any(stage.validations for stage in history.stages)
    if not history.stages:
        notes.append('No stage has begun.')
    elif not logged and not validated:
        notes.append('The stages have logged nothing that can be drawn: their '
                     'folders hold no <start>/vis_data/scalars.json. The '
                     'config needs a visualizer with LocalVisBackend.')
    else:
        if not validated:
            notes.append('There was no validation yet.')
        if logged:
            notes.append('Losses are as logged: means over the last '
                         'iterations. The student is trained on the sum of '
                         'detection and distillation loss.')
        if not history.plan.distils:
            notes.append('mtpd.distill has loss_weight 0: no teacher took '
                         'part.')
    return Part('curves', 'Curves', 'Curves', notes=notes,
                charts=curve_charts(history, facts.aps()))


def stages_part(history: History, facts: Facts) -> Part:
    """The student's APs at the last validation of each stage."""
    start = _start_ap(history, facts)
    columns = ['stage, teacher', 'validated after', *COLUMNS, 'handed on',
               'from start', 'alone', 'minus alone', 'minutes']
    alone = {stage.index: stage.end_ap for stage in history.control.stages}
    rows: list[list[str | None]] = [['start', None, number(start)]]
    for stage in history.stages:
        when = 'gone' if stage.is_gone else 'not yet'
        aps = dict.fromkeys(COLUMNS)
        if stage.validations:
            when = history.when(stage.validations[-1])
            aps |= stage.validations[-1].aps
        cells = stage_cells(start if stage.index == 1 else stage.start_ap,
                            stage.end_ap, stage.seconds)
        control = alone.get(stage.index)
        rows.append([f'{stage.index} {stage.teacher}', when,
                     *map(number, aps.values()),
                     ap_text(stage.end_ap) if stage.finished
                     and not stage.is_gone else number(stage.end_ap),
                     cells.gain, number(control),
                     gain(control, stage.end_ap), cells.minutes])
    for index, teacher in enumerate(history.order or (), 1):
        if index > len(history.stages):
            rows.append([f'{index} {teacher}', 'not begun'])
    for row in rows:
        row += [None] * (len(columns) - len(row))
    notes = ['Small, medium and large are AP of objects of up to 32x32, up to '
             '96x96 and more pixels (COCO). A dash: not known, or no object '
             'of this size.',
             'Handed on: box AP of the weights that the next stage starts '
             f'from (mtpd.handover={history.plan.handover!r}). From '
             "start: from the AP at the stage's start to the AP of what it "
             'handed on; without teachers the student gains something too.',
             'Alone: the control, the student trained on without teachers '
             'for as long. Minus alone: the gain of distillation.']
    return Part('stages', 'AP', 'AP of the student, stage by stage',
                tables=[Table('In percent, at the last validation of each '
                              'stage', columns, rows)], notes=notes)


def detectors_part(history: History, facts: Facts) -> Part:
    """AP, parameters and latency of student and teachers."""
    roles = {'student': 'student'}
    for index, label in enumerate(history.order or (), 1):
        for name in stage_teachers(label, history.plan):
            roles[name] = f'stage {index}'
    student = facts.aps().get('student')
    rows: list[list[str | None]] = []
    for detector in facts.detectors:
        ap, latency = number(detector.ap), None
        if detector.declared:
            ap = f'{ap} (declared)'
        if detector.seconds is not None:
            latency = f'{1000 * detector.seconds:.1f} ms'
        other = 'not chosen' if history.order else None
        rows.append([detector.name, roles.get(detector.name, other), ap,
                     gain(student, detector.ap)
                     if detector.name != 'student' else None,
                     _millions(detector.parameters), latency])
    notes = warnings(history, facts)
    if facts.machine is not None:
        notes.append(f'Latency: of one image in a batch of one, on '
                     f'{facts.machine}; median of 5. The student keeps its '
                     'size and its speed.')
    notes += _left_out(facts.left_out)
    columns = ['detector', 'role', 'box AP, %', 'minus student',
               'parameters', 'latency']
    return Part('detectors', 'Detectors', 'Student and teachers',
                tables=[Table('Student (before) and teachers', columns,
                              rows)], notes=notes)


def images_part(examples: Examples) -> Part:
    """Validation images with the boxes of student, teachers and ground
    truth."""
    notes = _left_out(examples.left_out)
    if examples.images:
        notes.insert(0, 'Evenly spread over the validation set. Boxes scored '
                     f'{SCORE:g} or more, at most {MAX_BOXES} per image. '
                     'Select an image to enlarge it.')
    return Part('images', 'Images', 'Images', examples=examples.images,
                notes=notes or ['No images were asked for.'])


def record_part(history: History) -> Part:
    """Seed, versions, weights and commands: what the result was made from."""
    record, plan = history.record, history.plan
    randomness = plan.student.config.get('randomness', {})
    seed = record.get('seed', randomness.get('seed'))
    identity = record.get('identity', {})
    hashes = identity.get('teachers', {})
    student = _checkpoint(plan.student.checkpoint, identity.get('student'))
    rows = [('seed', None if seed is None else str(seed)),
            ('work dir', plan.work_dir), ('versions', _versions(record)),
            ('student', student)]
    for name, teacher in plan.teachers.items():
        checkpoint = _checkpoint(teacher.checkpoint, hashes.get(name))
        rows.append((f'teacher {name}', checkpoint))
    tables = [Table('What went into it', (), rows, words=True)]
    notes = []
    if record.get('starts'):
        tables.append(_start_table(record['starts']))
    elif record:
        notes.append('Commands, times and git hashes of the starts are not '
                     'known: the version of mtpd that ran this did not record '
                     'them.')
    else:
        notes.append('There is no progression.json: the stages have not '
                     'begun.')
    return Part('made', 'How it was made', 'How it was made', tables=tables,
                notes=notes)


def _start_table(starts: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    yes_no: Mapping[Any, str] = {True: 'yes', False: 'no'}
    for start in starts:
        command = shlex.join(map(str, start.get('command', ())))
        resumed = yes_no.get(start.get('resume'))
        processes = start.get('processes')
        rows.append([
            start.get('time'), command or None, resumed,
            None if processes is None else str(processes),
            (start.get('git') or '')[:12] or None, _versions(start)])
    return Table('Every start', ['time', 'command', 'resumed', 'processes',
                                 'git', 'versions'], rows, words=True)


def _start_ap(history: History, facts: Facts) -> float | None:
    """Box AP in percent of what the first stage starts from."""
    if history.start_ap is None and \
            history.start == history.plan.student.checkpoint:
        return facts.aps().get('student')
    return history.start_ap


def _checkpoint(path: str | None, digest: str | None) -> str:
    if path is None:
        return 'its own initialisation'
    return path + (f', SHA-256 {digest}' if digest else '')


def _versions(record: Mapping[str, Any]) -> str | None:
    versions = [f'{name} {version}' for name, version
                in record.get('versions', {}).items()]
    return ', '.join(versions) or None


def variants_part(history: History) -> list[Part]:
    """What was made of the student, as ``tools/compress.py --compare`` has
    measured it; no part before."""
    measured = read_variants(history.plan.paths.variants)
    return [Part('variants', 'Small', 'Small detectors beside the original',
                 tables=[variants_table(measured)])] if measured else []


def _left_out(reasons: Sequence[str]) -> list[str]:
    return [f'Left out: {reason}' for reason in reasons]


def _count(count: int, thing: str) -> str:
    return f'{count} {thing}' + ('' if count == 1 else 's')


def _millions(parameters: int) -> str:
    return f'{parameters / 1e6:.2f} M'
