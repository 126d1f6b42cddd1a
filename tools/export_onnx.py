"""Write a trained detector as one ONNX file, from the image to the boxes.

    python tools/export_onnx.py work_dirs/x/student.py \\
        work_dirs/x/student.pth --out student.onnx [--int8] [--validate]

The file holds normalisation, network, decoding and non-maximum suppression,
and says in its metadata how an image is resized and what the classes are:
tools/predict.py takes it without the config. It is written only if
onnxruntime finds in it what mmdet finds, which the table shows. Needs
pip install onnx onnxruntime.
"""
import argparse
import os
import runpy
from pathlib import Path
from types import SimpleNamespace

# Alone, because the package takes ten seconds to import.
SHARED = SimpleNamespace(**runpy.run_path(
    str(Path(__file__).parents[1] / 'mtpd' / 'flags.py')))

CALIBRATE = 64


def main() -> None:
    args = arguments()
    SHARED.stop_if(SHARED.missing_config(args.config),
                   SHARED.missing_file(args.checkpoint))
    from mtpd.commands.export_onnx import export
    export(args)


def arguments() -> argparse.Namespace:
    flags = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument('config', type=os.path.expanduser,
                       help='config file of the detector, or '
                       'mmdet::family/name.py')
    flags.add_argument('checkpoint', type=os.path.expanduser,
                       help='file or URL')
    flags.add_argument('--out', required=True, metavar='FILE',
                       type=os.path.expanduser,
                       help='the file to write, .onnx')
    flags.add_argument('--int8', action='store_true',
                       help='convolutions in 8 bits')
    flags.add_argument('--calibrate', type=count, metavar='N',
                       help='training images that --int8 takes the ranges of '
                       f'values from ({CALIBRATE})')
    flags.add_argument('--images', type=count, default=8, metavar='N',
                       help='test images to compare boxes on (%(default)s)')
    flags.add_argument('--validate', action='store_true',
                       help='also compare the AP of the test set, or else '
                       'validation set')
    flags.add_argument('--overwrite', action='store_true',
                       help='replace a file of the same name')
    args = flags.parse_args()
    if args.calibrate is not None and not args.int8:
        flags.error('--calibrate needs --int8.')
    args.calibrate = args.calibrate or CALIBRATE
    return args


def count(text: str) -> int:
    """A number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not above 0')
    return value


if __name__ == '__main__':
    main()
