"""The page, parsed as by a browser, against the files of its progression."""
import base64
import copy
import io
import json
import re
import shutil
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmdet.registry import MODELS
from PIL import Image

from mtpd.analysis.variants_table import Measured, write_variants
from mtpd.plan.describe import describe_plan
from mtpd.progression.history import (Control, History, read_history,
                                      read_plan)
from mtpd.report.curves import (ap_curve, curve_charts, logged_curves,
                                loss_totals)
from mtpd.report.detectors import DetectorFacts, Facts, detector_facts
from mtpd.report.examples import Examples, example_images
from mtpd.report.page import NOTHING, page
from mtpd.report.parts import summary
from mtpd.stage.log import StageHistory, Validation

NOW = datetime(2026, 1, 2, 3, 4)
VOID = {'meta', 'img', 'link', 'br', 'hr'}


class Page(HTMLParser):
    """Its parts by id: texts, images and tables as rows of cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.part = ''
        self.texts: dict[str, str] = {}
        self.images: dict[str, list[dict]] = {}
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: set[str] = set()
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += [(tag, k, v) for k, v in attributes]
        given = dict(attributes)
        if tag == 'section':
            self.part = given['id']
        if tag == 'img':
            self.images.setdefault(self.part, []).append(given)
        if tag == 'table':
            self.tables.setdefault(self.part, []).append([])
        if tag == 'tr':
            self.tables[self.part][-1].append([])
        if tag in ('td', 'th'):
            self.tables[self.part][-1][-1].append('')
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts[self.part] = self.texts.get(self.part, '') + data
        if self.open and self.open[-1] in ('td', 'th'):
            self.tables[self.part][-1][-1][-1] += data

    def column(self, part: str, name: str, table: int = 0) -> dict[str, str]:
        head, *rows = self.tables[part][table]
        return {row[0]: row[head.index(name)] for row in rows}


NO_FACTS = Facts((DetectorFacts('student', 80_000, 18.2, False, None),), None)


def parsed(history: History, facts: Facts = NO_FACTS,
           examples: Examples = Examples((), ())) -> Page:
    return Page(page(history, facts, examples, NOW))


@pytest.fixture(scope='module')
def found(found_run) -> History:
    return read_history(read_plan(str(found_run)))


@pytest.fixture(scope='module')
def whole(found) -> tuple[str, Page, Facts, Examples]:
    """A finished progression's page with everything on it."""
    facts = detector_facts(found, measure=False)
    examples = example_images(found, 2)
    html = page(found, facts, examples, NOW)
    return html, Page(html), facts, examples


def test_every_part_exists_and_nothing_is_loaded_from_elsewhere(whole):
    html, parts, _, _ = whole
    ids = [v for tag, k, v in parts.attributes
           if k == 'id' and tag == 'section']
    assert ids == ['plan', 'order', 'curves', 'stages', 'detectors',
                   'images', 'made']
    links = [v for tag, k, v in parts.attributes if k == 'href']
    assert links[:7] == [f'#{part}' for part in ids]
    # An image is a link to itself, which shows it large, and back.
    assert links[7:11] == ['#image1-1', '#row1', '#image1-2', '#row1']
    targets = {f'#{v}' for _, k, v in parts.attributes if k == 'id'}
    assert set(links) <= targets
    for _, key, value in parts.attributes:
        if key in ('src', 'srcset', 'data', 'poster'):
            assert value.startswith('data:image/')
    assert not parts.tags & {'script', 'link', 'iframe', 'object', 'base'}
    without_images = re.sub(r'data:image/[^"]*', '', html)
    assert not re.search(r'https?:|//|url\(|@import', without_images)
    policy = {k: v for tag, k, v in parts.attributes if tag == 'meta'
              and k == 'content' and v.startswith('default-src')}
    assert policy == {'content': "default-src 'none'; img-src data:; "
                                 "style-src 'unsafe-inline'"}


def test_what_was_made_of_the_student_is_shown(found, tmp_path):
    history = replace(found, plan=replace(found.plan, work_dir=str(tmp_path)))
    assert 'variants' not in parsed(history).tables
    write_variants(history.plan.paths.variants, [
        Measured('original', 'my.pth', 38.6, 1_050_000, 119_500_000,
                 4_249_000, {1: 25.5, 2: 20.25}, (1., 1., 1.)),
        Measured('half.onnx', 'half.onnx', 38.4, None, None, 1_265_000,
                 {1: 6.8, 2: 4.}, (5.0625, 4.5, 6.))])
    assert parsed(history).tables['variants'] == [[
        ['', 'box AP', 'parameters', 'multiply-adds', 'file', 'ms, 1 thread',
         'ms, 2 threads', 'times as fast'],
        ['original', '38.6', '1.05 M', '119.5 M', '4,249 KB', '25.5', '20.2',
         '1.00 (1.00 to 1.00)'],
        ['half.onnx', '38.4', NOTHING, NOTHING, '1,265 KB', '6.8', '4.0',
         '5.06 (4.50 to 6.00)']]]


def test_every_image_can_be_seen_and_is_described(whole):
    _, parts, _, examples = whole
    images = [image for of in parts.images.values() for image in of]
    # Graph; AP, totals, two kinds of terms, ratio, rate; 2 x 4 views.
    assert [len(of) for of in parts.images.values()] == [1, 6, 8]
    for image in images:
        kind, content = image['src'].split(';base64,')
        decoded = Image.open(io.BytesIO(base64.b64decode(content)))
        assert f'data:image/{decoded.format.lower()}' == kind
        assert np.asarray(decoded).std() > 5  # not blank
        assert len(image['alt']) > 12
    assert [im['alt'].split(':')[0] for im in parts.images['images'][:4]] \
        == ['student before', 'student after', 'teacher swin', 'ground truth']


def test_the_page_has_the_plan_and_the_order(whole, found):
    _, parts, _, _ = whole
    assert describe_plan(found.plan) in parts.texts['plan']
    assert 'Found by Backward Greedy Selection' in parts.texts['order']
    order = json.load(open(Path(found.plan.work_dir) / 'order/order.json'))
    for step in order['order']['steps']:
        assert step['reason'] in parts.texts['order']
    mse = order['costs']['mse']
    for target in ('student', 'wide', 'swin'):
        column = parts.column('order', target)
        for source, cell in column.items():
            if source == target:
                assert cell == NOTHING
            else:
                levels = mse[source][target].values()
                number = cell.removeprefix('* ').split()[0]
                assert float(number) == pytest.approx(
                    sum(levels) / len(levels), rel=1e-3)
                assert cell.startswith('* ') == (float(number) == min(
                    float(other.removeprefix('* ').split()[0])
                    for other in column.values() if other != NOTHING))


def test_detectors_are_those_of_the_files(whole, found, retinanet):
    _, parts, _, _ = whole
    sizes = parts.column('detectors', 'parameters')
    own = sum(p.numel() for p in MODELS.build(retinanet).parameters())
    assert sizes['student'] == f'{own / 1e6:.2f} M'
    assert parts.column('detectors', 'role') == {
        'student': 'student', 'swin': 'stage 1', 'wide': 'not chosen'}
    assert parts.column('detectors', 'box AP, %') == {
        'student': f'{found.start_ap:.1f}', 'swin': '30.0 (declared)',
        'wide': '20.0 (declared)'}
    latencies = json.load(open(Path(found.plan.work_dir)
                               / 'order/order.json'))['latencies']
    assert parts.column('detectors', 'latency') == {
        name: f'{1000 * seconds:.1f} ms'
        for name, seconds in latencies.items()}


def test_ground_truth_is_the_annotations(whole, found, drawn):
    _, _, _, examples = whole
    truth = json.load(open(drawn / 'annotations/instances_val.json'))
    names = {c['id']: c['name'] for c in truth['categories']}
    assert [e.name for e in examples.images] == [
        truth['images'][i]['file_name'] for i in (0, 4)]
    for index, example in zip((0, 4), examples.images):
        expected = sorted(
            (names[a['category_id']], a['bbox'][0], a['bbox'][1],
             a['bbox'][0] + a['bbox'][2], a['bbox'][1] + a['bbox'][3])
            for a in truth['annotations']
            if a['image_id'] == truth['images'][index]['id'])
        assert sorted((box.name, *box.corners)
                      for box in example.views[-1].boxes) == expected
        # An image keeps its shape.
        width, height = Image.open(io.BytesIO(example.views[0].webp)).size
        assert width / height == pytest.approx(96 / 64, rel=.01)
        assert width > 800  # worth being enlarged


def test_boxes_are_the_students_own_predictions(found, monkeypatch):
    """Against mmdet's own inference; lowered to what random weights score."""
    from mmdet.apis import inference_detector
    from mtpd.distill.detector import build_detector
    from mtpd.report import examples as module
    monkeypatch.setattr(module, 'SCORE', 0.)
    view = example_images(found, 1).images[0].views[0]
    cfg = found.plan.student.config
    detector = build_detector(cfg.model, found.start).eval()
    detector.cfg = cfg
    dataset = cfg.val_dataloader.dataset
    cfg.test_dataloader = cfg.val_dataloader
    path = Path(dataset.data_root) / dataset.data_prefix.img
    image = sorted(path.iterdir())[0]
    own = inference_detector(detector, str(image)).pred_instances
    assert 0 < len(view.boxes) <= 30
    np.testing.assert_allclose([box.score for box in view.boxes],
                               own.scores[:len(view.boxes)], atol=1e-5)
    np.testing.assert_allclose([box.corners for box in view.boxes],
                               own.bboxes[:len(view.boxes)], atol=1e-2)


def test_the_making_is_recorded(found, whole):
    _, parts, _, _ = whole
    rows = dict(parts.tables['made'][0])
    assert rows['seed'] == '0'
    assert f'torch {torch.__version__}' in rows['versions']
    assert found.record['identity']['teachers']['swin'] in \
        rows['teacher swin']
    starts = [dict(command=['tools/train.py', 'my <config>.py', '--resume'],
                   time='2026-01-01T10:00:00', git='0123456789abcdef',
                   resume=True, versions={'torch': '9.9'}, processes=4),
              dict(time='2026-01-01T09:00:00')]
    anew = parsed(replace(found, record={
        **found.record, 'seed': 17, 'starts': starts}))
    assert dict(anew.tables['made'][0])['seed'] == '17'
    assert anew.tables['made'][1][1:] == [
        ['2026-01-01T10:00:00', "tools/train.py 'my <config>.py' --resume",
         'yes', '4', '0123456789ab', 'torch 9.9'],
        ['2026-01-01T09:00:00', *[NOTHING] * 5]]


def test_an_unfinished_run(stopped_run):
    history = read_history(read_plan(str(stopped_run)))
    parts = parsed(history, examples=example_images(history, 1))
    assert 'Unfinished: stage 2 of 2 (swin) is at iteration 4' in \
        parts.texts['']
    assert 'Given in the config (mtpd.order), not found by costs: wide > ' \
        'swin' in parts.texts['order']
    assert 'order' not in parts.tables and 'order' not in parts.images
    after = parts.column('stages', 'validated after')
    assert after == {'start': NOTHING, '1 wide': 'epoch 2',
                     '2 swin': 'not yet'}
    assert parts.column('stages', 'handed on') == {
        'start': NOTHING, '1 wide': f'{history.stages[0].end_ap:.1f}',
        '2 swin': NOTHING}
    titles = [im['alt'].split(':')[0] for im in parts.images['images']]
    assert titles == ['student before', 'student after', 'teacher swin',
                      'ground truth']


def test_only_an_order_and_nothing_at_all(found):
    begun = replace(found, stages=(), record={})
    parts = parsed(begun, examples=example_images(begun, 1))
    assert 'Not begun: none of 1 stage has started' in parts.texts['']
    assert 'No stage has begun' in parts.texts['curves']
    assert parts.column('stages', 'validated after')['1 swin'] == 'not begun'
    assert len(parts.images['order']) == 1
    assert [im['alt'].split(':')[0] for im in parts.images['images']] == [
        'student before', 'teacher swin', 'ground truth']
    assert 'no progression.json' in parts.texts['made']
    nothing = parsed(replace(begun, found=None, order=None))
    assert 'there is no order yet' in nothing.texts['']
    assert 'not done yet' in nothing.texts['order']


def test_user_text_is_escaped(found):
    evil = '<script>alert("1")</script> & \'"'
    plan = replace(found.plan, work_dir=f'/x/{evil}', distill={
        'type': evil, 'loss_weight': 1.})
    html = page(replace(found, plan=plan, record={
        'seed': evil, 'versions': {evil: evil}, 'starts': [
            {'command': [evil], 'git': evil, 'time': evil}]}),
        replace(NO_FACTS, left_out=(evil,), machine=evil),
        Examples((), (evil,)), NOW)
    assert '<script' not in html and '&lt;script&gt;' in html
    parts = Page(html)
    assert 'script' not in parts.tags
    assert dict(parts.tables['made'][0])['seed'] == evil


def measured(step: int, **aps: float) -> Validation:
    return Validation(step, aps)


@pytest.fixture
def two_stages(found) -> History:
    """Two stages of 20 iterations with losses that are known."""
    def line(step, detection, distill):
        return dict(step=step, lr=.1, loss=detection + 3 * distill,
                    loss_cls=detection, loss_distill_s8=distill,
                    loss_distill_s16=2 * distill, acc=99.,
                    distill_ratio=3 * distill / detection)

    plan = replace(found.plan, order=(('wide',), ('swin',)))
    return History(plan, None, (
        StageHistory(1, 'wide', (line(10, 4., 2.), line(20, 2., 1.)),
                     (measured(10, AP=19., AP50=30.),
                      measured(20, AP=20.5, AP50=33.3, small=7.25)), 20,
                     18., 20.5, 90., 'a'),
        StageHistory(2, 'swin', (line(10, 1., .5), line(20, float('nan'), 1)),
                     (measured(20, AP=25.),), 20, 20.5, 24., 60., 'b')),
        ('wide', 'swin'), 'c', 18.)


def test_aps_are_in_their_rows(two_stages):
    parts = parsed(two_stages)
    table = parts.tables['stages'][0]
    assert table[0] == ['stage, teacher', 'validated after', 'AP', 'AP50',
                        'AP75', 'small', 'medium', 'large', 'handed on',
                        'from start', 'alone', 'minus alone', 'minutes']
    none = NOTHING
    assert table[1:] == [
        ['start', none, '18.0', *[none] * 10],
        ['1 wide', 'iteration 20', '20.5', '33.3', none, '7.2', none, none,
         '20.5', '+2.5', none, none, '1.5'],
        ['2 swin', 'iteration 20', '25.0', *[none] * 5, '24.0', '+3.5', none,
         none, '1.0']]
    assert 'Finished: 2 stages' in parts.texts['']


def test_a_stage_whose_folder_was_removed_is_named(two_stages):
    first, second = two_stages.stages
    gone = StageHistory(1, 'wide', length=20, end_ap=20.5, is_gone=True)
    parts = parsed(replace(two_stages, stages=(gone, second)))
    assert 'Finished: 2 stages. What stage 1 (wide) handed on is no longer ' \
        'in its folder.' in parts.texts['']
    none = NOTHING
    assert parts.tables['stages'][0][2:] == [
        ['1 wide', 'gone', *[none] * 6, '20.5', '+2.5', *[none] * 3],
        parsed(two_stages).tables['stages'][0][3]]
    unknown = replace(gone, end_ap=None)
    parts = parsed(replace(two_stages, stages=(unknown, second)))
    assert parts.column('stages', 'handed on')['1 wide'] == none


def test_the_headline_is_the_difference_to_the_control(two_stages):
    """From 18 to 24 with teachers, to 24.5 without."""
    without = parsed(two_stages).texts['']
    assert '+6.0' not in without and 'not known' in without
    assert 'No control was run' in without and '--control' in without
    alone = (StageHistory(1, 'wide', (), (measured(20, AP=19.),), 20, 18., 19.,
                          50., 'd'),
             StageHistory(2, 'swin', (), (measured(20, AP=24.5),), 20, 19.,
                          24.5, 50., 'e'))
    history = replace(two_stages, control=Control(alone))
    parts = parsed(history)
    assert 'Distillation did not help: the progression ends -0.5 AP' in \
        parts.texts['']
    assert '+6.0' not in parts.texts[''] and '24.5' in parts.texts['']
    assert parts.column('stages', 'alone') == {
        'start': NOTHING, '1 wide': '19.0', '2 swin': '24.5'}
    assert parts.column('stages', 'minus alone') == {
        'start': NOTHING, '1 wide': '+1.5', '2 swin': '-0.5'}
    assert ap_curve(history)['student trained on alone'] == [
        ((0, 20, 40), (18., 19., 24.5))]
    assert 'student trained on alone from 18 to 24.5' in \
        parts.images['curves'][0]['alt']
    # So far, where the control is not finished.
    begun = dict(summary(replace(history, control=Control(alone[:1])),
                         NO_FACTS))
    assert begun['gain of distillation after stage 1'] == '+1.5'
    # It may be ahead of an unfinished progression.
    ahead = replace(history, stages=history.stages[:1])
    assert ap_curve(ahead)['student trained on alone'][0].x == (0, 20)


def test_a_weaker_teacher_is_warned_of(two_stages):
    facts = Facts((DetectorFacts('student', 80_000, 18., False, None),
                   DetectorFacts('wide', 80_000, 17., True, None)), None)
    parts = parsed(two_stages, facts)
    for part in ('', 'detectors'):
        assert 'Teacher wide (17.0 AP) is weaker than the student (18.0 AP)' \
            in parts.texts[part]
    assert parts.column('detectors', 'minus student') == {
        'student': NOTHING, 'wide': '-1.0'}


def drawn_charts(history: History, aps: dict[str, float], monkeypatch
                 ) -> dict[str, Figure]:
    """Label of the y axis -> the figure, before it becomes a PNG."""
    figures = {}

    def keep(figure, out, **_):
        figure.draw(FigureCanvasAgg(figure).get_renderer())
        figures[figure.axes[0].get_ylabel()] = figure

    monkeypatch.setattr(Figure, 'savefig', keep)
    curve_charts(history, aps)
    return figures


@pytest.mark.parametrize('best', [.2, 4., 52.7, 99.9])
def test_the_ap_axis_holds_every_marker_and_no_empty_space(
        two_stages, monkeypatch, best):
    axes = drawn_charts(two_stages, {'wide': 22., 'swin': best}, monkeypatch)[
        'box AP, %'].axes[0]
    low, high = axes.get_ylim()
    values = [18., 19., 20.5, 22., 25., best]
    span = max(values) - min(values)
    assert low < min(values) - .02 * span and high > max(values) + .02 * span
    assert span > .7 * (high - low)


def test_texts_of_stages_do_not_overlap(two_stages, monkeypatch):
    first, second = two_stages.stages
    names = [f'a_teacher_with_a_long_name_{i}' for i in range(6)]
    stages = tuple(replace(first, index=i + 1, teacher=name)
                   for i, name in enumerate(names))
    plan = replace(two_stages.plan, teachers=dict.fromkeys(
        names, two_stages.plan.teachers['wide']))
    figure = drawn_charts(replace(two_stages, plan=plan, stages=stages),
                          dict.fromkeys(names, 22.), monkeypatch)['box AP, %']
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text.get_window_extent(renderer)
             for text in figure.axes[0].texts if text.get_text()]
    assert len(texts) == 12
    assert not any(a.overlaps(b) for a, b in combinations(texts, 2))


@pytest.mark.parametrize('rate', [.1, .0125, 1.25e-4, 3.3e-5, 2.5e-6, 1e-9])
def test_no_label_lies_on_numbers(two_stages, monkeypatch, rate):
    first, *others = two_stages.stages
    lines = tuple({**line, 'lr': rate * factor}
                  for line, factor in zip(first.lines, (1, .31)))
    history = replace(two_stages, stages=(replace(first, lines=lines),
                                          *others[:0]))
    for figure in drawn_charts(history, {}, monkeypatch).values():
        axes = figure.axes[0]
        renderer = FigureCanvasAgg(figure).get_renderer()
        label = axes.yaxis.label.get_window_extent(renderer)
        numbers = [text.get_window_extent(renderer)
                   for text in (*axes.get_yticklabels(),
                                axes.yaxis.get_offset_text())
                   if text.get_text()]
        assert numbers and label.x0 >= 0
        assert not any(label.overlaps(number) for number in numbers)


def test_curves_continue_over_the_stages(two_stages):
    assert ap_curve(two_stages)['student'] == [
        ((0, 10, 20, 40), (18., 19., 20.5, 25.))]
    totals = loss_totals(two_stages)
    assert [s.x for s in totals['detection']] == [(10, 20), (30, 40)]
    assert totals['detection'][0].y == (4., 2.)
    assert [s.y for s in totals['distillation']] == [(6., 3.), (1.5, 3.)]
    assert logged_curves(two_stages, ['distill_ratio'])['distill_ratio'][
        0].y == (1.5, 1.5)
    images = curve_charts(two_stages, {'wide': 22.})
    assert [p.title for p in images] == [
        'Box AP', 'Total losses', 'Detection loss, its terms',
        'Distillation loss, its terms',
        'Distillation loss over detection loss', 'Learning rate']
    assert images[0].text.endswith('from 18 to 25, teacher wide 22.0')
    # What is not finite is not drawn; acc is no loss.
    assert images[2].text.endswith('over iterations: loss_cls from 4 to 1')
    assert images[3].text.endswith('s8 from 2 to 1; s16 from 4 to 2')


def test_no_validation_no_log_no_teacher(two_stages):
    def without(**parts) -> History:
        return replace(two_stages, start_ap=None, start=None, stages=tuple(
            replace(s, **parts) for s in two_stages.stages))

    parts = parsed(without(validations=()))
    assert 'There was no validation yet' in parts.texts['curves']
    assert not any('AP' in im['alt'] for im in parts.images['curves'])
    assert set(parts.column('stages', 'AP').values()) == {NOTHING}
    silent = parsed(without(validations=(), lines=()))
    assert 'LocalVisBackend' in silent.texts['curves']
    assert 'curves' not in silent.images
    off = replace(two_stages, plan=replace(two_stages.plan, distill={
        'type': 'FeatureL2Loss', 'loss_weight': 0}))
    assert 'no teacher took part' in parsed(off).texts['curves']


def test_what_is_missing_is_measured_only_if_asked(found, tmp_path,
                                                   monkeypatch):
    from mtpd.search import measure
    plan = replace(found.plan, work_dir=str(tmp_path), order=(('swin',),))
    history = replace(found, plan=plan, found=None, record={})
    bare = detector_facts(history, measure=False)
    assert bare.machine is None and not bare.left_out
    assert {d.seconds for d in bare.detectors} == {None}
    assert bare.aps() == {'wide': 20., 'swin': 30.}
    asked = []
    monkeypatch.setattr(measure, 'latency',
                        lambda *_: asked.append('seconds') or .5)
    monkeypatch.setattr(measure, 'box_ap', lambda *_: 12.)
    facts = detector_facts(history, measure=True)
    assert {d.name: d.seconds for d in facts.detectors} == {
        'student': .5, 'swin': .5, 'wide': None}
    assert facts.aps() == {'student': 12., 'wide': 20., 'swin': 30.}
    assert len(asked) == 2
    again = detector_facts(history, measure=True)
    assert again == facts and len(asked) == 2


def test_missing_weights_are_left_out(found, tmp_path):
    gone = str(tmp_path / 'gone.pth')
    teachers = {**found.plan.teachers, 'swin': replace(
        found.plan.teachers['swin'], checkpoint=gone)}
    shutil.copy(Path(found.plan.work_dir) / 'measured.json', tmp_path)
    history = replace(found, plan=replace(
        found.plan, teachers=teachers, work_dir=str(tmp_path)))
    facts = detector_facts(history, measure=True)
    assert [gone in why for why in facts.left_out] == [True]
    examples = example_images(history, 1)
    assert [v.title for v in examples.images[0].views] == [
        'student before', 'student after', 'ground truth']
    text = parsed(history, facts, examples).texts
    assert gone in text['detectors'] and gone in text['images']


def test_missing_images_are_left_out(found, drawn, tmp_path):
    shutil.copytree(drawn / 'annotations', tmp_path / 'annotations')
    config = copy.deepcopy(found.plan.student.config)
    dataset = config.val_dataloader.dataset
    history = replace(found, plan=replace(found.plan, student=replace(
        found.plan.student, config=config)))
    for root, missing in ((tmp_path, 'val/'), (tmp_path / 'gone', 'json')):
        dataset.data_root = str(root)
        examples = example_images(history, 1)
        assert examples.images == () and missing in examples.left_out[0]


def test_a_torn_image_and_torn_annotations_are_named(found, drawn, tmp_path):
    shutil.copytree(drawn, tmp_path, dirs_exist_ok=True)
    config = copy.deepcopy(found.plan.student.config)
    config.val_dataloader.dataset.data_root = str(tmp_path)
    student = replace(found.plan.student, config=config, ap=None)
    history = replace(found, found=None, record={}, plan=replace(
        found.plan, work_dir=str(tmp_path / 'work'), student=student))
    image, *_ = sorted((tmp_path / 'val').iterdir())
    image.write_bytes(image.read_bytes()[:200])
    examples = example_images(history, 2)
    assert examples.left_out == (
        f'image {image}: the file is torn or no image',)
    one, = examples.images
    assert [view.title for view in one.views] == [
        'student before', 'student after', 'teacher swin', 'ground truth']
    why, *_ = detector_facts(history, measure=True).left_out
    assert why.startswith(
        f'student was not measured: the image {image} cannot be used (in Load')
    path = tmp_path / 'annotations/instances_val.json'
    for torn in (path.read_bytes()[:500], b'{"images": []}', b'\xff', b'[]'):
        path.write_bytes(torn)
        whole = f'the validation set, {path}, cannot be used ('
        said, = example_images(history, 2).left_out
        assert said.startswith(f'images: {whole}')
        why, *_ = detector_facts(history, measure=True).left_out
        assert why.startswith(f'student was not measured: {whole}')
