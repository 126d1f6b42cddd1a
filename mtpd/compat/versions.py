"""Checks the installed packages before one fails with a less clear message.

Packages are found by their import names, because maintained forks of mmengine,
mmcv and mmdet have other distribution names. No longer needed with an mmengine
that does not need pkg_resources (the forks do not) and an mmcv with wheels.

This file imports nothing of the package, so that ``tools/doctor.py`` can load
it alone if the package itself cannot be imported.
"""
import importlib.util
import runpy
from typing import Any

INSTALL = {
    'torch': 'pip install torch torchvision',
    'torchvision': 'pip install torchvision (of the same build as torch)',
    'mmengine': 'pip install mmengine',
    'mmcv': 'pip install mmcv-lite==2.1.0',
    'mmdet': 'pip install mmdet==3.3.0'}


class EnvironmentProblem(ImportError):
    """A package is missing or does not fit; the message ends with the cure.

    Attributes:
        what: The problem.
        cure: The command that solves it.
    """

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(f'{what}: {cure}')
        self.what = what
        self.cure = cure


def check_versions() -> None:
    """Raise :class:`EnvironmentProblem` for the first problem."""
    for package, cure in INSTALL.items():
        if importlib.util.find_spec(package) is None:
            raise EnvironmentProblem(f'{package} is not installed', cure)
    check_torchvision()
    check_pkg_resources()
    check_mmcv()


def check_torchvision() -> None:
    """Check that torchvision has its operators, which need the torch that it
    was built for."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        # "operator torchvision::nms does not exist": another build of torch.
        raise EnvironmentProblem(
            f'torchvision does not fit the installed torch ({error})',
            'pip install --force-reinstall torch torchvision, both from one '
            'place') from error


def check_pkg_resources() -> None:
    """Check for pkg_resources, with which mmengine reads ``mmdet::...``."""
    import mmengine
    from mmengine.utils import digit_version
    if digit_version(mmengine.__version__) <= digit_version('0.10.7') and \
            importlib.util.find_spec('pkg_resources') is None:
        raise EnvironmentProblem(
            'mmengine needs pkg_resources, which setuptools 82 dropped',
            'pip install "setuptools<82"')


def check_mmcv() -> None:
    """Check that mmdet accepts the installed mmcv."""
    import mmcv
    from mmengine.utils import digit_version
    if digit_version(mmcv.__version__) >= digit_version('2.2.0') and \
            digit_version(mmdet_version()) <= digit_version('3.3.0'):
        # Both install into one folder. Without the uninstallation, the
        # compiled part of mmcv 2.2.0 would stay and be taken for 2.1.0's.
        raise EnvironmentProblem(
            f'mmdet {mmdet_version()} refuses mmcv {mmcv.__version__}',
            'pip uninstall -y mmcv mmcv-lite && pip install mmcv-lite==2.1.0')


def mmdet_version() -> str:
    """mmdet's version, read without importing mmdet: the import needs the
    operators and fails with an mmcv that mmdet refuses."""
    # Any: check_versions() has seen that the package exists.
    spec: Any = importlib.util.find_spec('mmdet')
    folder = spec.submodule_search_locations[0]
    # The file is run, because the fork's asks the installed metadata.
    return runpy.run_path(f'{folder}/version.py')['__version__']
