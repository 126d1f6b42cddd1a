"""What a comparison of two runs says, in words."""
import math

from mtpd.analysis.comparison import Comparison
from mtpd.statistics import Difference


def verdict(found: Comparison) -> list[str]:
    """Each difference with its error, then what they say together.

    The paper's finding (section 3.5): a higher training loss and a higher
    validation AP, in a flatter landscape. It is said to be seen only if all
    three are beyond noise.
    """
    first, second = found.first, found.second
    at = found.settings.radius
    loss, ap = found.loss(), found.ap()
    common, own = found.sharpness('common'), found.sharpness('own')
    lines = [
        f'{first.name} against {second.name}; after +- one standard error',
        _line(f'Training detection loss on {found.images} training '
              'images', first.losses.mean(), second.losses.mean(), loss,
              '.4g', ('higher', 'lower')),
        _line('Validation box AP', first.ap.ap, second.ap.ap, ap, '.1f',
              ('higher', 'lower')),
        *(_line(f'Sharpness, the rise of the loss at {at:g} of '
                + of, first.sharpness(scale), second.sharpness(scale),
                difference, '.3g', ('sharper', 'flatter'))
          for scale, of, difference in (
              ('common', 'the filter norms, both moved alike', common),
              ('own', "each student's own filter norms", own)))]
    if not math.isfinite(common.value) or not math.isfinite(own.value):
        lines.append('The loss is not finite at this distance. Choose a '
                     'smaller --radius.')
    elif common.sign != own.sign:
        lines.append(
            'Which is flatter '
            + ('depends on' if common.sign * own.sign else
               'is told by one of')
            + ' the two ways to measure a step (the first student\'s filters '
            f"have {found.norm_ratio:.3g} times the second's norm, median); "
            'that is taken for not told.')
    flat = common.sign if common.sign == own.sign else 0
    lines += [_together(loss.sign, ap.sign, flat), *found.remarks]
    lines.append(
        'One run each: the errors are of images and directions. What '
        'another seed of training would change, they do not say.')
    return lines


def _line(what: str, first: float, second: float, difference: Difference,
          form: str, words: tuple[str, str]) -> str:
    said = {1: words[0], -1: words[1], 0: 'within noise'}[difference.sign]
    if not math.isfinite(difference.value):
        said = 'not finite'
    elif not math.isfinite(difference.error):
        said = 'how sure is not known'
    digits = form if form.endswith('f') else '.2g'
    return (f'{what}: {first:{form}} against {second:{form}}, '
            f'{difference.value:+{digits}} +- {difference.error:{digits}}: '
            f'{said}')


def _together(loss: int, ap: int, flat: int) -> str:
    if ap <= 0:
        return ('The AP is lower: there is no gain to explain.' if ap else
                'The AP differs by no more than noise: there is no gain to '
                'explain.')
    if loss > 0 and flat < 0:
        return ('As in the paper: a higher AP with a higher training loss '
                'and in a flatter landscape. The gain is better '
                'generalisation, not better optimisation.')
    against = [said for said, met in (
        ('the training loss is lower', loss < 0),
        ('the landscape is sharper', flat > 0)) if met]
    open_ = [said for said, met in (
        ('the training loss', loss == 0), ('flatness', flat == 0)) if met]
    if against:
        return ('The AP is higher, but not for the reason that the paper '
                'gives: ' + ' and '.join(against) + '.')
    return ('The AP is higher; whether for the reason that the paper gives '
            'is not told, as the difference of ' + ' and of '.join(open_)
            + ' is within noise.')
