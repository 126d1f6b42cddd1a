"""One training step: a student, frozen teachers, adapters and a mechanism."""
from .adapters import FeatureAdapter, PyramidAdapter, resample, shared_strides
from .auto_weight import AutoWeight
from .branch import Guidance, NotFinite, make_guidance
from .detector import build_detector, pyramid_channels, record_output
from .distiller import FeatureDistiller
from .frozen import FrozenTeacher
from .hooks.checkpoint import DistillCheckpointHook
from .hooks.fade import FadeDistillHook
from .hooks.nonfinite import NonFiniteHook
from .inherit import inherit
from .losses import FeatureL2Loss, Mechanism, Pairing, Scene
from .optim_constructor import DistillOptimWrapperConstructor
from .preprocessor import DistillDataPreprocessor

__all__ = [
    'AutoWeight', 'DistillCheckpointHook', 'DistillDataPreprocessor',
    'DistillOptimWrapperConstructor', 'FadeDistillHook', 'FeatureAdapter',
    'FeatureDistiller', 'FeatureL2Loss', 'FrozenTeacher', 'Guidance',
    'Mechanism', 'NonFiniteHook', 'NotFinite', 'Pairing', 'PyramidAdapter',
    'Scene', 'build_detector', 'inherit', 'make_guidance', 'pyramid_channels',
    'record_output', 'resample', 'shared_strides'
]
