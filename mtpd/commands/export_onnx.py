"""Writes an ONNX file and prints how it compares with mmdet."""
import argparse

from mtpd.command_line import plain_errors, use_own_modules
from mtpd.deploy import Exported, export_onnx
from mtpd.deploy.validation import decide
from mtpd.show.tables import number, text_table


def export(args: argparse.Namespace) -> None:
    """Write the file and print the comparison; errors have no traceback.

    Args:
        args: The tool's.
    """
    with plain_errors():
        use_own_modules()
        exported = export_onnx(
            args.config, args.checkpoint, args.out,
            calibrate=args.calibrate if args.int8 else None,
            images=args.images, validate=args.validate,
            overwrite=args.overwrite)
    print(tables(exported))
    if exported.calibrated is not None:
        print(f'8 bits: calibrated with {exported.calibrated} training images'
              + (f'; there are no more, and {args.calibrate} were asked for.'
                 if exported.calibrated < args.calibrate else '.'))
    if args.int8 and args.validate and not decide(exported.metrics):
        print('The test set gives no AP, so that the boxes of 8 bits decided.')
    print(f'{exported.path}: {exported.size / 1e6:.2f} MB')


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
