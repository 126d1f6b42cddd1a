"""What a trained detector is used for: its AP on a test set, and boxes."""
from .evaluation import evaluate_checkpoint
from .files import predict_files
from .inputs import UnusableInput
from .onnx_file import OnnxDetector
from .onnx_predictor import OnnxPredictor
from .predictor import Predictor

__all__ = ['OnnxDetector', 'OnnxPredictor', 'Predictor', 'UnusableInput',
           'evaluate_checkpoint', 'predict_files']
