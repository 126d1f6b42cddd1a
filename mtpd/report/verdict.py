"""What a comparison of two runs shows, in words."""
import math

from mtpd.analysis.comparison import Comparison
from mtpd.statistics import Difference


def verdict(comparison: Comparison) -> list[str]:
    """Each difference with its error, then what they show together.

    The paper's finding (section 3.5): a higher training loss and a higher
    validation AP, in a flatter landscape. The verdict confirms it only if all
    three are beyond noise.
    """
    first, second = comparison.first, comparison.second
    radius = f'{comparison.settings.radius:g}'
    loss, ap = comparison.loss(), comparison.ap()
    lines = [f'{first.name} against {second.name}; +- is one standard error']
    lines.append(_describe(
        f'Training detection loss on {comparison.images} training images',
        first.losses.mean(), second.losses.mean(), loss, '.4g',
        ('higher', 'lower')))
    lines.append(_describe('Validation box AP', first.ap.ap, second.ap.ap, ap,
                           '.1f', ('higher', 'lower')))
    differences = []
    for scale, step in (
            ('common', 'the filter norms, both moved alike'),
            ('own', "each student's own filter norms")):
        difference = comparison.sharpness(scale)
        differences.append(difference)
        lines.append(_describe(
            f'Sharpness, the rise of the loss at {radius} of {step}',
            first.sharpness(scale), second.sharpness(scale), difference,
            '.3g', ('sharper', 'flatter')))
    common, own = differences
    ratio = ("the first student's filters have "
             f"{comparison.norm_ratio:.3g} times the second's norm, median")
    if not math.isfinite(common.value) or not math.isfinite(own.value):
        lines.append('The loss is not finite at this distance. Choose a '
                     'smaller --radius.')
    elif common.sign * own.sign < 0:
        lines.append('The two ways to measure a step disagree on which '
                     f'student is flatter ({ratio}), so we draw no '
                     'conclusion.')
    elif common.sign != own.sign:
        lines.append('Only one of the two ways to measure a step shows which '
                     f'student is flatter ({ratio}), so we draw no '
                     'conclusion.')
    sharper = common.sign if common.sign == own.sign else 0
    lines += [_conclusion(loss.sign, ap.sign, sharper), *comparison.remarks]
    lines.append(
        'One run each: the errors cover the choice of images and directions, '
        'not what another training seed would change.')
    return lines


def _describe(quantity: str, first: float, second: float,
              difference: Difference, form: str,
              words: tuple[str, str]) -> str:
    higher, lower = words
    result = {1: higher, -1: lower, 0: 'within noise'}[difference.sign]
    if not math.isfinite(difference.value):
        result = 'not finite'
    elif not math.isfinite(difference.error):
        result = 'its error is not known'
    digits = form if form.endswith('f') else '.2g'
    return (f'{quantity}: {first:{form}} against {second:{form}}, '
            f'{difference.value:+{digits}} +- {difference.error:{digits}}: '
            f'{result}')


def _conclusion(loss: int, ap: int, sharper: int) -> str:
    """What the signs of the differences in training loss, AP and sharpness
    mean together."""
    if ap < 0:
        return 'The AP is lower: there is no gain to explain.'
    if ap == 0:
        return ('The AP differs by no more than noise: there is no gain to '
                'explain.')
    if loss > 0 and sharper < 0:
        return ('As in the paper: a higher AP with a higher training loss '
                'and in a flatter landscape. The gain is better '
                'generalisation, not better optimisation.')
    against, within_noise = [], []
    if loss < 0:
        against.append('the training loss is lower')
    elif loss == 0:
        within_noise.append('of the training loss')
    if sharper > 0:
        against.append('the landscape is sharper')
    elif sharper == 0:
        within_noise.append('of flatness')
    if against:
        return ('The AP is higher, but not for the reason that the paper '
                f'gives: {" and ".join(against)}.')
    return ("The AP is higher. Whether the paper's reason explains it remains "
            f'open: the difference {" and ".join(within_noise)} is within '
            'noise.')
