"""One training step: a student, a frozen teacher, adapters and a mechanism."""
from .adapters import FeatureAdapter, PyramidAdapter, shared_strides
from .checkpoint_hook import DistillCheckpointHook
from .detector import build_detector, pyramid_channels, record_output
from .distiller import FeatureDistiller
from .losses import FeatureL2Loss
from .preprocessor import DistillDataPreprocessor
from .teacher import FrozenTeacher

__all__ = [
    'DistillCheckpointHook', 'DistillDataPreprocessor', 'FeatureAdapter',
    'FeatureDistiller', 'FeatureL2Loss', 'FrozenTeacher', 'PyramidAdapter',
    'build_detector', 'pyramid_channels', 'record_output', 'shared_strides'
]
