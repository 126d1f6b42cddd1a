"""One training step: a student, frozen teachers, adapters and a mechanism."""
from .adapters import FeatureAdapter, PyramidAdapter, resample, shared_strides
from .auto_weight import AutoWeight
from .branch import NotFinite, TeacherBranch, make_branch
from .detector import build_detector
from .distiller import FeatureDistiller
from .frozen import FrozenDetector, MapReader
from .hooks.calibration import CalibrationHook
from .hooks.checkpoint import DistillCheckpointHook
from .hooks.fade import FadeDistillHook
from .hooks.nonfinite import NonFiniteHook
from .inherit import inherit
from .losses import BatchContext, FeatureL2Loss, Mechanism, Pairing
from .optim_constructor import DistillOptimWrapperConstructor
from .preprocessor import DistillDataPreprocessor
from .pyramid import pyramid_channels, record_output
from .teacher_view.transform import TeacherView

__all__ = [
    'AutoWeight', 'BatchContext', 'CalibrationHook', 'DistillCheckpointHook',
    'DistillDataPreprocessor', 'DistillOptimWrapperConstructor',
    'FadeDistillHook', 'FeatureAdapter', 'FeatureDistiller', 'FeatureL2Loss',
    'FrozenDetector', 'MapReader', 'Mechanism', 'NonFiniteHook', 'NotFinite',
    'Pairing', 'PyramidAdapter', 'TeacherBranch', 'TeacherView',
    'build_detector', 'inherit', 'make_branch', 'pyramid_channels',
    'record_output', 'resample', 'shared_strides'
]
