"""Finds objects in files with a checkpoint or an ONNX file."""
import argparse
import sys

from mmengine.device import get_device

from mtpd.command_line import plain_errors, use_own_modules
from mtpd.predict import OnnxPredictor, Predictor, predict_files


def predict(args: argparse.Namespace, config: str, model: str,
            is_onnx: bool) -> None:
    """Write drawn images and detections; errors have no traceback.

    Args:
        args: The tool's.
        config: Of the detector.
        model: Its checkpoint or its ONNX file.
        is_onnx: Whether it is the latter, which needs no config.
    """
    with plain_errors():
        use_own_modules()
        predictor: OnnxPredictor | Predictor
        if is_onnx:
            predictor = OnnxPredictor(model, args.device or 'cpu',
                                      args.threshold)
        else:
            predictor = Predictor(config, model, args.device or get_device(),
                                  args.threshold)
        result = predict_files(predictor, args.inputs, args.out, dict(
            config=None if config == model else config, checkpoint=model,
            threshold=args.threshold))
    print(f'{result.detections} detections in {result.done} of '
          f'{result.files} files: {result.json}')
    if result.unread:
        sys.exit('\n'.join(f'Not read: {path}: {why}'
                           for path, why in result.unread.items()))
