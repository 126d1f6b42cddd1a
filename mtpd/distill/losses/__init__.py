"""One distillation mechanism per file, registered in mmdet's ``MODELS``."""
from .attention_transfer import AttentionTransferLoss
from .cosine import CosineLoss
from .cwd import CWDLoss
from .feature_l2 import FeatureL2Loss
from .fgd import FGDLoss
from .hidden_state import HiddenStateLoss
from .logits import LogitLoss
from .mechanism import (BatchContext, Mechanism, Pairing, build_mechanism,
                        known_mechanisms)
from .mgd import MGDLoss
from .pkd import PKDLoss
from .weighted_sum import WeightedSum

__all__ = [
    'AttentionTransferLoss', 'CWDLoss', 'CosineLoss', 'FGDLoss',
    'FeatureL2Loss', 'HiddenStateLoss', 'LogitLoss', 'MGDLoss', 'Mechanism',
    'PKDLoss', 'Pairing', 'BatchContext', 'WeightedSum', 'build_mechanism',
    'known_mechanisms'
]
