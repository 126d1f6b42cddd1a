"""Progressive multi-teacher distillation of mmdet detectors.

Importing the package registers everything; a config needs no more than
``custom_imports = dict(imports=['mtpd'])``.
"""
from mtpd.compat.operators import install_operators
from mtpd.compat.versions import check_versions

# Before anything imports mmdet, which imports mmcv's operators.
check_versions()
install_operators()

from mtpd.compat import atomic_files, checkpoints, samples, ssd  # noqa: E402

checkpoints.install_safe_loading()
samples.name_samples_in_errors()
ssd.let_ssd_predict()

from mtpd import backbones, data, distill, stage  # noqa: E402
from mtpd.compress import layers  # noqa: E402
from mtpd.version import __version__  # noqa: E402

__all__ = [
    'atomic_files', 'backbones', 'checkpoints', 'data', 'distill', 'layers',
    'stage', '__version__'
]
