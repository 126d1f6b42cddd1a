"""One distillation mechanism per file, registered in mmdet's ``MODELS``."""
from .feature_l2 import FeatureL2Loss

__all__ = ['FeatureL2Loss']
