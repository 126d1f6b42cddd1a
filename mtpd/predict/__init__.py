"""What a trained detector is used for: its AP on a test set, and boxes."""
from .evaluation import evaluate_checkpoint
from .files import predict_files
from .inputs import UnusableInput
from .predictor import Predictor

__all__ = ['Predictor', 'UnusableInput', 'evaluate_checkpoint',
           'predict_files']
