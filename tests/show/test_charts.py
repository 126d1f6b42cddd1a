"""What is drawn says what was measured, and can be read."""
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from mtpd.order.costs import AdaptationCosts
from mtpd.order.selection import TeachingOrder, backward_greedy_selection
from mtpd.show import charts
from mtpd.show.charts import draw_costs, draw_order

LONG = ('student_r50fpn', 'swin_tiny_mask', 'cascade_x101', 'htc_dcnv2_r10',
        'tood_r101_msc', 'detectors_r50', 'vfnet_x101_64', 'deformable_de',
        'convnext_s_ms')


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """Drawn, but not written."""
    drawn = []
    monkeypatch.setattr(charts, '_save',
                        lambda figure, path: drawn.append(figure))
    return drawn


def made_up(names: tuple[str, ...]) -> AdaptationCosts:
    """Costs that need much room, shares from 0.1 to 1.4."""
    drawn = np.random.default_rng(0)
    return AdaptationCosts.from_dicts(
        names, (8,), {(a, b): {8: 1e-4 * drawn.uniform(.1, 1.4)}
                      for a in names for b in names if a != b},
        {name: {8: 1e-4} for name in names}, {8: 100})


def extents(figure: Figure, artists: list) -> list[Bbox]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [artist.get_window_extent(renderer) for artist in artists]


def texts(figure: Figure) -> dict[str, Text]:
    return {text.get_text(): text for text in figure.axes[0].texts}


def overlap(a: Bbox, b: Bbox) -> bool:
    return Bbox.intersection(a, b) is not None


def inside(a: Bbox, b: Bbox) -> bool:
    return b.x0 < a.x0 and a.x1 < b.x1 and b.y0 < a.y0 and a.y1 < b.y1


def test_charts_are_written_and_show_something(published, aps, tmp_path):
    order = backward_greedy_selection(published.cost, 'S', aps, 3)
    assert order.teachers == ('I', 'III', 'IV')
    draw_costs(published, str(tmp_path / 'costs.png'))
    draw_order(published, aps, order, str(tmp_path / 'new' / 'order.png'),
               {'S': .02}, 27.6)
    for name in ('costs.png', 'new/order.png'):
        chart = imread(tmp_path / name)[..., :3]
        assert min(chart.shape[:2]) > 300
        dark = (chart.mean(-1) < 0.5).mean()
        assert 0.005 < dark < 0.6
        # Black and white: no colour is needed to read it.
        assert np.abs(chart - chart.mean(-1, keepdims=True)).max() < 0.02


def test_a_detector_shows_its_ap_and_its_latency(published, aps, figures):
    order = backward_greedy_selection(published.cost, 'S', aps, 3)
    draw_order(published, aps, order, '', {'S': .0224, 'II': .00341,
                                           'IV': 1.5}, 27.64)
    draw_order(published, aps, order, '')
    with_all, without = map(texts, figures)
    assert {'S\nAP 27.6\n22 ms', 'I\nAP 38.2', 'II\nAP 38.7\n3.4 ms',
            'III\nAP 42.3', 'IV\nAP 47.0\n1500 ms'} <= with_all.keys()
    assert {'S', 'I\nAP 38.2', 'II\nAP 38.7'} <= without.keys()


def test_an_order_shows_every_cost_into_the_chosen(published, aps, figures):
    order = backward_greedy_selection(published.cost, 'S', aps, 3)
    draw_order(published, aps, order, '')
    numbers = {text: drawn.get_fontweight()
               for text, drawn in texts(figures[0]).items()
               if text[0].isdigit()}
    assert numbers == {
        '0.939': 'bold', '0.934': 'bold', '0.890': 'bold',
        **dict.fromkeys(('1.18', '1.94', '1.40', '2.50', '3.00', '0.963'),
                        'normal')}
    lines = [patch for patch in figures[0].axes[0].patches
             if isinstance(patch, FancyArrowPatch)]
    assert sorted((line.get_linestyle(), line.get_linewidth())
                  for line in lines) == [('-', 3)] * 3 + [('--', 1)] * 6
    title = figures[0].axes[0].get_title()
    assert 'I > III > IV' in title and 'rounding' not in title
    assert 'lower is closer' in title
    assert 'Stop: 3 teachers were asked for' in title


def test_an_order_says_why_it_stopped(published, aps, figures):
    published.mse[published.at(8, 'S', 'IV')] = .1
    published.mse[published.at(16, 'S', 'IV')] = .1
    order = backward_greedy_selection(published.cost, 'S', aps)
    draw_order(published, aps, order, '')
    draw_order(published, aps, TeachingOrder(('III', 'IV'), ()), '')
    stopped, by_hand = (figure.axes[0].get_title() for figure in figures)
    assert ('Stop before IV: the cheapest, III, costs 0.890, more than the '
            "student's own 0.100") in stopped.replace('\n', ' ')
    assert max(map(len, stopped.split('\n'))) <= 66
    assert 'top' not in by_hand


@pytest.mark.parametrize('pool, chosen', [(1, 1), (3, 2), (8, 1), (8, 3),
                                          (8, 5)])
def test_every_number_of_an_order_can_be_read(figures, pool, chosen):
    names = LONG[:pool + 1]
    draw_order(made_up(names), dict.fromkeys(names[1:], 40.0),
               TeachingOrder(names[-chosen:], ()), '',
               dict.fromkeys(names, 0.1234), 30.)
    figure, = figures
    boxes = extents(figure, [patch for patch in figure.axes[0].patches
                             if isinstance(patch, FancyBboxPatch)])
    drawn = figure.axes[0].texts
    nodes = extents(figure, [t for t in drawn if 'AP' in t.get_text()])
    numbers = extents(figure, [t for t in drawn if 'AP' not in t.get_text()])
    assert len(boxes) == len(nodes) == pool + 1
    assert len(numbers) == sum(range(1, chosen + 1)) + chosen * (pool - chosen)
    for a, b in combinations((*boxes, *numbers), 2):
        assert not overlap(a, b)
    for node, box in zip(nodes, boxes, strict=True):
        assert inside(node, box)


def test_costs_below_resolution_are_drawn_as_bounds(published, aps, figures,
                                                    limits):
    published.mse[:, 0, 1] = 0., 1e-9  # from S to I
    costs = replace(published, resolution=limits(published, 1e-6, 1e-6))
    draw_costs(costs, '')
    draw_order(costs, aps, TeachingOrder(('I', 'IV'), ()), '')
    of_costs, of_order = map(texts, figures)
    assert '< 2.00e-06\n< 1e-06' in of_costs
    assert '0.0600\n0.03' in of_costs and '< 2.00e-06' in of_order
    for figure in figures:
        assert 'distinguished from rounding' in figure.axes[0].get_title()


@pytest.mark.parametrize('names', [LONG, LONG[:2], tuple('abcde')])
def test_every_number_of_the_matrix_can_be_read(figures, names):
    draw_costs(made_up(names), '')
    figure, = figures
    axes = figure.axes[0]
    numbers = axes.texts
    assert len(numbers) == len(names) * (len(names) - 1)
    for number, extent in zip(numbers, extents(figure, numbers)):
        column, row = number.get_position()
        cell = Bbox(axes.transData.transform(
            [(column - .5, row + .5), (column + .5, row - .5)]))
        assert inside(extent, cell)
        shade = axes.images[0].to_rgba(axes.images[0].get_array())[row, column]
        ink = 1. if number.get_color() == 'white' else 0.
        assert abs(shade[0] - ink) > 0.4
    labels = axes.get_xticklabels()
    assert [label.get_text() for label in labels] == list(names)
    tilted = {label.get_rotation() for label in labels}
    assert tilted == ({35.} if len(names[0]) > 1 else {0.})
    if tilted == {0.}:
        for a, b in combinations(extents(figure, labels), 2):
            assert not overlap(a, b)


def test_the_matrix_explains_itself(published, figures):
    draw_costs(published, '')
    figure, = figures
    title = figure.axes[0].get_title()
    for words in ('lower is closer', 'its closest is bold', 'as the shade',
                  "share of the target's variance"):
        assert words in title
    bold = {text.get_position() for text in figure.axes[0].texts
            if text.get_fontweight() == 'bold'}
    names = published.names
    assert bold == {
        (column, min((row for row in range(len(names)) if row != column),
                     key=lambda row: published.cost(names[row], target)))
        for column, target in enumerate(names) if target != 'S'} | {
            (0, row) for row in range(1, len(names))}  # all of them cost 5


def test_a_target_that_is_constant_has_no_share(published, tmp_path):
    published.variance[published.at(8, 'I')] = 0.
    draw_costs(published, str(tmp_path / 'costs.png'))
    assert imread(tmp_path / 'costs.png').std() > 0.1
