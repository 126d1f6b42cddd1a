"""One training step: a student, frozen teachers, adapters and a mechanism."""
from .adapters import FeatureAdapter, PyramidAdapter, resample, shared_strides
from .auto_weight import AutoWeight
from .checkpoint_hook import DistillCheckpointHook
from .detector import build_detector, pyramid_channels, record_output
from .distiller import FeatureDistiller
from .fading import FadeDistillHook
from .guidance import Guidance, NotFinite, make_guidance
from .inherit import inherit
from .losses import FeatureL2Loss, Mechanism, Pairing, Scene
from .nonfinite import NonFiniteHook
from .optim_constructor import DistillOptimWrapperConstructor
from .preprocessor import DistillDataPreprocessor
from .teacher import FrozenTeacher

__all__ = [
    'AutoWeight', 'DistillCheckpointHook', 'DistillDataPreprocessor',
    'DistillOptimWrapperConstructor', 'FadeDistillHook', 'FeatureAdapter',
    'FeatureDistiller', 'FeatureL2Loss', 'FrozenTeacher', 'Guidance',
    'Mechanism', 'NonFiniteHook', 'NotFinite', 'Pairing', 'PyramidAdapter',
    'Scene', 'build_detector', 'inherit', 'make_guidance', 'pyramid_channels',
    'record_output', 'resample', 'shared_strides'
]
