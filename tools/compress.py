"""Cut a smaller detector out of a trained one, to be trained further.

    python tools/compress.py my.py my.pth --width 0.5
    python tools/train.py my_half_mtpd.py

Writes my_half.py, an ordinary mmdet config with half of the channels,
my_half_start.pth, its first weights, in which the most important channels were
kept, and my_half_mtpd.py, which trains it, taught by my.pth. With a budget
instead of --width, the widest slice within the budget is made.
"""
import argparse
import os
from functools import partial

from mmdet.models.detectors import BaseDetector

from mtpd.analysis.sizes import network_pass, test_size
from mtpd.command_line import plain_errors, use_own_modules
from mtpd.compress import CannotSlice
from mtpd.compress.calibrate import IMAGES
from mtpd.compress.compress import Compressed, Request, compress
from mtpd.compress.files import Teacher
from mtpd.plan.detectors import load_config
from mtpd.progression.prepare import set_scope, unwritable
from mtpd.search.latency import timed
from mtpd.show.tables import text_table

ROUNDS = 15
"""Timed passes of a detector; the fastest counts."""
BUDGETS = {'ms': 'ms', 'mb': 'MB', 'params': 'parameters'}
"""Flag -> unit."""


def main() -> None:
    args = arguments()
    with plain_errors():
        use_own_modules()
        folder = args.out or default_folder(args.config)
        problems = unwritable(folder, '--out ', '--out')
        if problems:
            raise CannotSlice(problems)
        set_scope({})
        limits = {unit: getattr(args, f'budget_{flag}')
                  for flag, unit in BUDGETS.items()
                  if getattr(args, f'budget_{flag}') is not None}
        report(compress(Request(
            config=args.config, checkpoint=args.checkpoint, folder=folder,
            width=args.width, limits=limits, depth=args.depth, ap=args.ap,
            teachers=dict(args.teacher), images=args.images,
            overwrite=args.overwrite), partial(milliseconds, args.config)))


def default_folder(config: str) -> str:
    """The folder of a config; the working folder for one of a package."""
    return '.' if '::' in config else os.path.dirname(config) or '.'


def milliseconds(config: str, detector: BaseDetector) -> float:
    """The fastest pass of one image of a config's test size through the
    network, in PyTorch on this machine, without the decoding of boxes."""
    size = test_size(load_config(config))
    if size is None:
        raise CannotSlice(['--budget-ms: val_dataloader does not resize its '
                           'images to one size, so there is none to measure '
                           'with. Set another budget, or --width.'])
    run = network_pass(detector, size)
    run()
    seconds = [timed(run) for _ in range(ROUNDS)]
    return 1000 * min(seconds)


def report(made: Compressed) -> None:
    """Print what was made, and how to train it."""
    rows = []
    for name, (count, size) in (('original', made.original),
                                (f'{100 * made.width:g}% of the channels',
                                 made.smaller)):
        rows.append([name, f'{count / 1e6:.3f} M', f'{size:.3f} MB'])
    print(text_table('Sliced', ['', 'parameters', 'weights'], rows))
    for note in made.notes:
        print(f'Note: {note}')
    print(f'Batch norms measured on {made.images} training images.'
          if made.images else 'There are no batch norms to measure anew.')
    print('Written: ' + ', '.join(made.files))
    print('It is not usable before it is trained: python tools/train.py '
          f'{made.files.progression}')


def arguments() -> argparse.Namespace:
    flags = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument('config', help='config file of the trained detector, '
                       'or mmdet::family/name.py')
    flags.add_argument('checkpoint', help='its weights, file or URL')
    flags.add_argument('--width', type=float, metavar='SHARE',
                       help='share of the channels to keep, such as 0.5')
    for flag, what in (('ms', 'milliseconds for one image, of the network in '
                        'PyTorch on this machine'),
                       ('mb', 'megabytes of weights'),
                       ('params', 'number of parameters')):
        flags.add_argument(f'--budget-{flag}', type=float, metavar='N',
                           help=f'instead of --width: at most so many {what}')
    flags.add_argument('--depth', type=int, metavar='LAYERS',
                       help='also leave out every second block of the '
                       "backbone's stages that are half as deep with so many "
                       'layers, such as 18 for a ResNet-34')
    flags.add_argument('--teacher', type=teacher, action='append', default=[],
                       metavar='NAME=CONFIG,CHECKPOINT[,AP]', help='a further '
                       'teacher besides the original; may be repeated')
    flags.add_argument('--ap', type=float, help='box AP of the original in '
                       'percent, if those of the teachers are given too')
    flags.add_argument('--images', type=int, default=IMAGES, metavar='N',
                       help='training images on which batch norms are '
                       'measured anew (%(default)s)')
    flags.add_argument('--out', metavar='FOLDER', help='where the files are '
                       'written; the folder of the config')
    flags.add_argument('--overwrite', action='store_true',
                       help='replace files of the same name')
    args = flags.parse_args()
    budgets = [getattr(args, f'budget_{flag}') for flag in BUDGETS]
    has_budget = any(budget is not None for budget in budgets)
    if args.width is None and args.depth is not None and not has_budget:
        args.width = 1.
    if (args.width is None) != has_budget:
        flags.error('Set either --width or a budget (--budget-ms, --budget-mb '
                    'or --budget-params).')
    if args.images < 1:
        flags.error(f'--images is {args.images}; it has to be at least 1.')
    names = [name for name, _ in args.teacher]
    if len(set(names)) < len(names):
        flags.error(f'--teacher: a name is given twice ({", ".join(names)}).')
    return args


def teacher(text: str) -> tuple[str, Teacher]:
    """``NAME=CONFIG,CHECKPOINT[,AP]``."""
    name, equals, rest = text.partition('=')
    parts = rest.split(',')
    if not name.isidentifier() or not equals or len(parts) not in (2, 3) \
            or not all(parts):
        raise argparse.ArgumentTypeError(
            f'{text} is not NAME=CONFIG,CHECKPOINT or '
            'NAME=CONFIG,CHECKPOINT,AP')
    try:
        ap = float(parts[2]) if len(parts) == 3 else None
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f'{parts[2]} in {text} is no AP in percent') from error
    return name, Teacher(parts[0], parts[1], ap)


if __name__ == '__main__':
    main()
