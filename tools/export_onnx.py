"""Write a trained detector as one ONNX file, from the image to the boxes.

    python tools/export_onnx.py work_dirs/x/student.py \\
        work_dirs/x/student.pth --out student.onnx [--int8] [--validate]

The file holds normalisation, network, decoding and non-maximum suppression,
and says in its metadata how an image is resized and what the classes are:
tools/predict.py takes it without the config. It is written only if
onnxruntime finds in it what mmdet finds, which the table shows. Needs
pip install 'mtpd[onnx]'.
"""
import argparse

from mtpd.command_line import plain_errors, use_own_modules
from mtpd.deploy import Exported, export_onnx
from mtpd.show.tables import number, text_table


def main() -> None:
    args = arguments()
    with plain_errors():
        use_own_modules()
        exported = export_onnx(
            args.config, args.checkpoint, args.out,
            calibrate=args.calibrate if args.int8 else None,
            images=args.images, validate=args.validate)
    print(tables(exported))
    print(f'{exported.path}: {exported.size / 1e6:.2f} MB')


def arguments() -> argparse.Namespace:
    flags = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument('config', help='config file of the detector, or '
                       'mmdet::family/name.py')
    flags.add_argument('checkpoint', help='file or URL')
    flags.add_argument('--out', required=True, metavar='FILE',
                       help='the file to write, .onnx')
    flags.add_argument('--int8', action='store_true',
                       help='convolutions in 8 bits')
    flags.add_argument('--calibrate', type=count, default=64, metavar='N',
                       help='training images that --int8 takes the ranges of '
                       'values from (%(default)s)')
    flags.add_argument('--images', type=count, default=8, metavar='N',
                       help='test images to compare boxes on (%(default)s)')
    flags.add_argument('--validate', action='store_true',
                       help='also compare the AP of the test set, or else '
                       'validation set')
    return flags.parse_args()


def count(text: str) -> int:
    """A number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not above 0')
    return value


def tables(exported: Exported) -> str:
    """The comparisons as text."""
    rows = [
        (f'{precision}, {row.name}', row.images, row.expected, row.found,
         row.matched, number(row.box, '.1e'), number(row.score, '.1e'),
         number(row.mask, '.3f'))
        for precision, parts in exported.rows.items() for row in parts]
    text = text_table(
        f'Boxes of mmdet and of the file, score_thr {exported.threshold:g}',
        ('', 'images', 'mmdet', 'file', 'matched', 'largest difference (px)',
         'of scores', 'shared mask'), rows)
    if exported.metrics:
        text += text_table('Test set', ('', 'mmdet', 'file'), [
            (name, number(one, '.3f'), number(other, '.3f'))
            for name, (one, other) in exported.metrics.items()])
    return text


if __name__ == '__main__':
    main()
