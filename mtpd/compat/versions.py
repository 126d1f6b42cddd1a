"""Looks at the installed packages before they fail with somebody else's words.

Imports, not distribution names, are what counts: maintained forks of
mmengine, mmcv and mmdet install under other names. Ends with an mmengine that
does not need pkg_resources (the forks do not) and an mmcv with wheels.
"""
import importlib.util
import re
from typing import Any


class EnvironmentProblem(ImportError):
    """A package is missing or does not fit; the message ends with the cure."""


def check_versions() -> None:
    """Raise :class:`EnvironmentProblem` for the first thing that is wrong."""
    for package, cure in (
            ('torch', 'pip install torch torchvision'),
            ('torchvision', 'pip install torchvision (of the same build as '
             'torch)'),
            ('mmengine', 'pip install mmengine'),
            ('mmcv', 'pip install mmcv-lite==2.1.0'),
            ('mmdet', 'pip install mmdet==3.3.0')):
        if importlib.util.find_spec(package) is None:
            raise EnvironmentProblem(f'{package} is not installed: {cure}')
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        # "operator torchvision::nms does not exist": another build of torch.
        raise EnvironmentProblem(
            f'torchvision does not fit the installed torch ({error}): pip '
            'install --force-reinstall torch torchvision, both from one '
            'place') from error
    import mmcv
    import mmengine
    from mmengine.utils import digit_version
    if digit_version(mmengine.__version__) <= digit_version('0.10.7') and \
            importlib.util.find_spec('pkg_resources') is None:
        raise EnvironmentProblem(
            'mmengine needs pkg_resources, which setuptools 82 dropped: pip '
            'install "setuptools<82"')
    if digit_version(mmcv.__version__) >= digit_version('2.2.0') and \
            digit_version(mmdet_version()) <= digit_version('3.3.0'):
        raise EnvironmentProblem(
            f'mmdet {mmdet_version()} refuses mmcv {mmcv.__version__}: pip '
            'install mmcv-lite==2.1.0')


def mmdet_version() -> str:
    """mmdet's version, read from its file: importing mmdet runs the very
    assertion on mmcv that is to be predicted, and needs the operators."""
    # Any: that it is there, check_versions() has seen.
    spec: Any = importlib.util.find_spec('mmdet')
    folder = spec.submodule_search_locations[0]
    with open(f'{folder}/version.py') as file:
        found: Any = re.search(r"__version__ = '(.+?)'", file.read())
    return found[1]
