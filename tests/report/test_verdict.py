"""The words of each case follow from the numbers."""
from types import SimpleNamespace

import numpy as np
import pytest

from mtpd.analysis.comparison import Comparison, Measured, Settings
from mtpd.analysis.folded_ap import FoldedAP
from mtpd.report.verdict import verdict

SCATTER = np.array([-1., .5, 1., -.5])


def measured(name: str, loss: float, ap: float, common: float,
             own: float) -> Measured:
    sign = -1 if name == 'alone' else 1  # the differences scatter, too
    noise = .001 * sign * SCATTER
    return Measured(
        SimpleNamespace(folder=name), name, (), loss + noise,
        np.ones((3, 3)), {scale: value + noise * np.ones((5, 1))
                          for scale, value in (('common', common),
                                               ('own', own))},
        FoldedAP(ap, ap + 10 * noise))


def compared(loss: float, ap: float, common: float, own: float,
             remarks: tuple[str, ...] = ()) -> Comparison:
    """First minus second as given; one standard error of each mean is about
    .001."""
    return Comparison(
        measured('distilled', .5 + loss, 30 + ap, .1 + common, .1 + own),
        measured('alone', .5, 30., .1, .1), Settings(64, 3, 1., .1, 5, 0), 64,
        np.array([-1., 0., 1.]), 1.25, remarks)


def test_each_difference_has_its_error():
    found = compared(.02, 1.5, -.03, 0)
    lines = verdict(found)
    assert lines[0].startswith('distilled against alone')
    # Differences of batches scatter by .002 x (-1, .5, 1, -.5): a standard
    # error of .002 x sqrt(2.5 / 3 / 4).
    assert found.loss().error == pytest.approx(.002 * (2.5 / 12)**.5)
    assert lines[1] == (
        'Training detection loss on 64 training images: 0.52 against 0.5, '
        '+0.02 +- 0.00091: higher')
    assert lines[2] == ('Validation box AP: 31.5 against 30.0, +1.5 +- 0.0: '
                        'higher')
    assert lines[3].endswith(
        'at 0.1 of the filter norms, both moved alike: 0.07 against 0.1, '
        '-0.03 +- 0.00091: flatter')
    assert lines[4].endswith("own filter norms: 0.1 against 0.1, +0 +- "
                             '0.00091: within noise')
    assert lines[-1].startswith('One run each: ')


@pytest.mark.parametrize(('differences', 'words'), [
    ((.02, 1.5, -.03, -.02),
     'As in the paper: a higher AP with a higher training loss and in a '
     'flatter landscape. The gain is better generalisation, not better '
     'optimisation.'),
    ((.02, -1.5, -.03, -.02), 'The AP is lower: there is no gain to explain.'),
    ((.02, .01, -.03, -.02),
     'The AP differs by no more than noise: there is no gain to explain.'),
    ((-.02, 1.5, -.03, -.02),
     'The AP is higher, but not for the reason that the paper gives: the '
     'training loss is lower.'),
    ((-.02, 1.5, .03, .02),
     'The AP is higher, but not for the reason that the paper gives: the '
     'training loss is lower and the landscape is sharper.'),
    ((.0001, 1.5, -.03, -.02),
     "The AP is higher. Whether the paper's reason explains it remains open: "
     'the difference of the training loss is within noise.'),
    ((.0001, 1.5, .0001, -.0001),
     "The AP is higher. Whether the paper's reason explains it remains open: "
     'the difference of the training loss and of flatness is within noise.'),
])
def test_the_conclusion(differences, words):
    assert verdict(compared(*differences))[-2] == words


@pytest.mark.parametrize(('common', 'own', 'words'), [
    (-.03, .03, 'The two ways to measure a step disagree on which student is '
     "flatter (the first student's filters have 1.25 times the second's norm, "
     'median), so we draw no conclusion.'),
    (-.03, .0001, 'Only one of the two ways to measure a step shows which '
     'student is flatter'),
    (float('nan'), -.03, 'The loss is not finite at this distance.'),
])
def test_flatness_remains_open_where_the_scales_disagree(common, own, words):
    lines = verdict(compared(.02, 1.5, common, own))
    assert lines[5].startswith(words)
    assert 'remains open' in lines[6]


def test_remarks_are_included():
    lines = verdict(compared(.02, 1.5, -.03, -.02, ('Not as long.',)))
    assert lines[-2] == 'Not as long.'
    assert verdict(compared(.02, 1.5, float('inf'), 0))[3].endswith(
        'not finite')
