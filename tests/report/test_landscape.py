"""The charts show what was measured, both runs alike."""
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from mtpd.analysis.comparison import Comparison, Measured, Settings
from mtpd.analysis.folded_ap import FoldedAP
from mtpd.analysis.runs import Validation
from mtpd.report import landscape
from mtpd.report.landscape import draw_landscapes, draw_trajectories


def measured(name: str, height: float) -> Measured:
    at = np.linspace(-1, 1, 5)
    bowl = .4 + height * (at[:, None]**2 + 2 * at**2)
    way = tuple(
        (Validation(stage, 't', epoch, 20. + 5 * stage + epoch,
                    1 / (stage + epoch), None),
         float('nan') if epoch == 2 else .9 / (stage + epoch))
        for stage in (1, 2) for epoch in range(1, 7))
    return Measured(SimpleNamespace(folder=name), name, way,
                    np.array([.3, .5]), bowl,
                    {s: np.full((2, 2), .0512 * height)
                     for s in ('common', 'own')},
                    FoldedAP(31.26, np.array([31., 31.5])))


@pytest.fixture
def found() -> Comparison:
    return Comparison(measured('distilled (a > b)', 1.),
                      measured('trained on alone', 3.),
                      Settings(16, 5, 1., .1, 2, 0), 16,
                      np.linspace(-1, 1, 5), 1., ())


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    drawn = []
    monkeypatch.setattr(landscape, '_save',
                        lambda figure, path: drawn.append(figure))
    return drawn


def test_both_landscapes_have_one_scale(found, figures):
    draw_landscapes(found, 'x.png')
    panels = [axes for axes in figures[0].axes if axes.images]
    assert len(panels) == 2
    images = [axes.images[0] for axes in panels]
    for image, of in zip(images, (found.first, found.second)):
        assert (image.get_array() == of.surface).all()
        # The middle of the outer cells lies at the coordinates -1 and 1.
        assert image.get_extent() == [-1.25, 1.25, -1.25, 1.25]
        assert image.origin == 'lower'
    both = np.stack([found.first.surface, found.second.surface])
    assert images[0].get_clim() == images[1].get_clim() == (
        both.min(), both.max())
    levels = [tuple(axes.collections[0].levels) for axes in panels]
    assert levels[0] == levels[1]
    assert panels[0].get_title() == ('distilled (a > b)\nloss 0.4, sharpness '
                                     '0.0512, AP 31.3')


def test_points_that_are_not_finite_are_left_white(found, figures):
    holed = found.first.surface.copy()
    holed[0, 0], holed[0, 1] = np.nan, np.inf
    draw_landscapes(replace(found, first=replace(
        found.first, surface=holed)), 'x.png')
    image = figures[0].axes[0].images[0]
    assert image.get_clim()[1] == found.second.surface.max()
    assert np.ma.getmaskarray(image.get_array())[0, :2].all()


def test_a_trajectory_has_a_point_per_validation(found, figures):
    draw_trajectories(found, 'x.png')
    left, right = figures[0].axes
    for axes, losses in (
            (left, [at.logged for at, _ in found.first.trajectory]),
            (right, [loss for _, loss in found.first.trajectory])):
        lines = [line for line in axes.lines if line.get_label() ==
                 'distilled (a > b)']
        kept = [i for i, loss in enumerate(losses) if np.isfinite(loss)]
        assert list(lines[0].get_xdata()) == [losses[i] for i in kept]
        assert list(lines[0].get_ydata()) == [
            found.first.trajectory[i][0].ap for i in kept]
        labels = [text.get_text() for text in axes.texts]
        # Each stage's first and last, for both runs.
        assert all(labels.count(label) == 2
                   for label in ('1.1', '1.6', '2.1', '2.6'))
    assert len(left.lines) == 2 * (1 + 12)
    assert len(right.lines) == 2 * (1 + 10)
    # The marker tells the stage.
    assert {line.get_marker() for line in left.lines[1:13]} == {'o', 's'}


def test_charts_are_written_and_show_something(found, tmp_path):
    for draw, name in ((draw_landscapes, 'landscape.png'),
                       (draw_trajectories, 'trajectory.png')):
        draw(found, str(tmp_path / 'folder' / name))
        pixels = imread(tmp_path / 'folder' / name)
        assert pixels.shape[1] > 1000 and pixels.std() > .05
