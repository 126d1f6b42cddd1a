"""Find objects in an image, a folder or a video, and draw their boxes.

    python tools/predict.py work_dirs/x/student.py work_dirs/x/student.pth \\
        photos/ --out predictions
    python tools/predict.py student.onnx photos/ --out predictions

Writes the drawn images and videos to --out, under their own names, and all
detections to predictions.json there. A file that cannot be read is named and
left out; the exit code is then 1. A file of tools/export_onnx.py needs no
config.
"""
import argparse
import os
import runpy
from pathlib import Path
from types import SimpleNamespace

# Alone, because the package takes ten seconds to import.
SHARED = SimpleNamespace(**runpy.run_path(
    str(Path(__file__).parents[1] / 'mtpd' / 'flags.py')))


def main() -> None:
    args = arguments()
    config, model = args.detector[0], args.detector[-1]
    SHARED.stop_if(
        # Beside an .onnx file it is not read.
        '' if is_onnx(model) else SHARED.missing_config(config),
        SHARED.missing_file(model),
        *(SHARED.missing_file(path, or_folder=True) for path in args.inputs))
    from mtpd.commands.predict import predict
    predict(args, config, model, is_onnx(model))


def is_onnx(path: str) -> bool:
    """By its ending."""
    return path.lower().endswith('.onnx')


def arguments() -> argparse.Namespace:
    flags = argparse.ArgumentParser(
        description=__doc__,
        usage='%(prog)s [options] (config checkpoint | file.onnx) input ...',
        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument('words', nargs='+', metavar='detector and input',
                       type=os.path.expanduser,
                       help="config file of the detector, such as a "
                       "progression's student.py, and its checkpoint, a file "
                       'or URL; or one .onnx file. Then images, videos, or '
                       'folders of them')
    flags.add_argument('--out', default='predictions', metavar='FOLDER',
                       type=os.path.expanduser,
                       help='where results are written (%(default)s)')
    flags.add_argument('--threshold', type=score, default=0.3,
                       metavar='SCORE', help='leave out detections with a '
                       'lower score (%(default)s)')
    flags.add_argument('--device', help='such as cpu or cuda:1; a GPU unless '
                       'there is none, and the CPU for an .onnx file')
    args = flags.parse_args()
    # A config before an .onnx file is not needed, and may be there.
    first_is_all = is_onnx(args.words[0])
    args.detector = args.words[:1 if first_is_all else 2]
    args.inputs = args.words[len(args.detector):]
    if not args.inputs:
        flags.error('expected a config, a checkpoint and an input, or an '
                    f'.onnx file and an input; found {" ".join(args.words)}')
    return args


def score(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not from 0 to 1')
    return value


if __name__ == '__main__':
    main()
