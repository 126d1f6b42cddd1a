"""Cut a smaller detector out of a trained one, to be trained further.

    python tools/compress.py my.py my.pth --width 0.5
    python tools/train.py my_half_mtpd.py

Writes my_half.py, an ordinary mmdet config with half of the channels,
my_half_start.pth, its first weights, in which the most important channels were
kept, and my_half_mtpd.py, which trains it, taught by my.pth. With a budget
instead of --width, the widest slice within the budget is made.

    python tools/compress.py my.py my.pth --conv-cfg LowRankConv2d --rank 0.5
    python tools/compress.py my_lowrank.py student.pth --merge

The first keeps the channels and writes the same three files for convolutions
of low rank, with binary weights (BinaryWeightConv2d) or also binary inputs
(XNORConv2d). The first convolution of the backbone and those that predict stay
plain. The second turns such a detector into one with plain convolutions that
finds the same, and writes my_lowrank_plain.py and my_lowrank_plain.pth.

    python tools/compress.py --compare work_dirs/my_half_mtpd

shows the detector and all that was made of it beside each other: AP, size and
milliseconds. Of what is not there yet it names the command.
"""
import argparse
import os
from functools import partial
from typing import Sequence

import torch

from mtpd.analysis.sizes import network_pass, test_size
from mtpd.analysis.variants import (find_variants, measure_variants,
                                    variants_table, write_variants)
from mtpd.command_line import plain_errors, use_own_modules
from mtpd.compress import CannotSlice
from mtpd.compress.calibrate import IMAGES
from mtpd.compress.compress import Compressed, Request, compress
from mtpd.compress.files import Files, Teacher
from mtpd.compress.layers.command import (Layered, LayerRequest, merge_layers,
                                          replace_layers)
from mtpd.compress.layers.low_rank import SCHEMES
from mtpd.compress.layers.model import LAYERS
from mtpd.deploy.latency import Milliseconds
from mtpd.plan.detectors import load_config
from mtpd.progression.history import read_history, read_plan
from mtpd.progression.prepare import set_scope, unwritable
from mtpd.show.tables import text_table

BUDGETS = {'ms': 'ms', 'mb': 'MB', 'params': 'parameters'}
"""Flag -> unit."""
LOW_RANK = ('rank', 'scheme')
"""Flags of LowRankConv2d alone."""


def main() -> None:
    args = arguments()
    with plain_errors() as command:
        use_own_modules()
        if args.compare:
            command.folder = args.compare[0]
            compare(*args.compare)
            return
        folder = args.out or default_folder(args.config)
        problems = unwritable(folder, '--out ', '--out')
        if problems:
            raise CannotSlice(problems)
        set_scope({})
        if args.conv_cfg or args.merge:
            report_layers(layered(args, folder))
            return
        limits = {unit: getattr(args, f'budget_{flag}')
                  for flag, unit in BUDGETS.items()
                  if getattr(args, f'budget_{flag}') is not None}
        measure = Milliseconds(partial(image_size, args.config), network_pass)
        report(compress(Request(
            config=args.config, checkpoint=args.checkpoint, folder=folder,
            width=args.width, limits=limits, depth=args.depth, ap=args.ap,
            teachers=dict(args.teacher), images=args.images,
            overwrite=args.overwrite), measure))
        if measure.runtime:
            print(f'Milliseconds of one image: by {measure.runtime}.')


def compare(work_dir: str, *files: str) -> None:
    """Print and write the table of a progression's student and all that was
    made of it.

    Args:
        work_dir: The progression's folder.
        files: Of tools/export_onnx.py and tools/pack.py.
    """
    plan = read_plan(work_dir)
    set_scope(plan.student.config)
    history = read_history(plan)
    variants, missing = find_variants(history, files)
    measured = measure_variants(variants, history, sorted(
        {1, torch.get_num_threads()}))
    print(variants_table(measured))
    for line in missing:
        print(f'Not there: {line}')
    again = os.path.isfile(plan.paths.variants)
    write_variants(plan.paths.variants, measured)
    print(f'Written: {plan.paths.variants}'
          + (', in place of the table before' if again else ''))


def default_folder(config: str) -> str:
    """The folder of a config; the working folder for one of a package."""
    return '.' if '::' in config else os.path.dirname(config) or '.'


def image_size(config: str) -> Sequence[int]:
    """Width and height of a config's test images."""
    size = test_size(load_config(config))
    if size is None:
        raise CannotSlice(['--budget-ms: val_dataloader does not resize its '
                           'images to one size, so there is none to measure '
                           'with. Set another budget, or --width.'])
    return size


def layered(args: argparse.Namespace, folder: str) -> Layered:
    """Replace or merge the convolutions of a detector."""
    common = dict(config=args.config, checkpoint=args.checkpoint,
                  folder=folder, overwrite=args.overwrite)
    if args.merge:
        return merge_layers(Request(**common))
    conv_cfg = dict(type=args.conv_cfg)
    for key in LOW_RANK:
        if getattr(args, key) is not None:
            conv_cfg[key] = getattr(args, key)
    return replace_layers(LayerRequest(
        **common, conv_cfg=conv_cfg, parts=tuple(args.parts or ()), ap=args.ap,
        teachers=dict(args.teacher), images=args.images))


def report_layers(made: Layered) -> None:
    """Print which convolutions were changed, and how to train them."""
    rows = [[name, f'{count / 1e6:.3f} M', f'{size:.3f} MB']
            for name, (count, size) in (('given', made.original),
                                        ('written', made.made))]
    print(text_table(f'{made.changed} convolutions changed',
                     ['', 'parameters', 'weights'], rows))
    for note in made.notes:
        print(f'Note: {note}')
    if made.images:
        print(f'Batch norms measured on {made.images} training images.')
    print('Written: ' + ', '.join(made.files))
    if isinstance(made.files, Files):
        print('It is not usable before it is trained: python tools/train.py '
              f'{made.files.progression}')


def report(made: Compressed) -> None:
    """Print what was made, and how to train it."""
    rows = []
    for name, (count, size) in (('original', made.original),
                                (f'{100 * made.width:g}% of the channels',
                                 made.smaller)):
        rows.append([name, f'{count / 1e6:.3f} M', f'{size:.3f} MB'])
    print(text_table('Sliced', ['', 'parameters', 'weights'], rows))
    print(f'{made.smaller[0] / made.original[0]:.0%} of the parameters stay.')
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
    flags.add_argument('config', nargs='?', help='config file of the trained '
                       'detector, or mmdet::family/name.py')
    flags.add_argument('checkpoint', nargs='?',
                       help='its weights, file or URL')
    flags.add_argument('--compare', nargs='+', metavar=('WORK_DIR', 'FILE'),
                       help='instead of all else: the progression of this '
                       'folder with the .onnx files and packed checkpoints in '
                       'it, and others: .onnx files of the same classes, '
                       'checkpoints of its student')
    flags.add_argument('--width', type=float, metavar='SHARE',
                       help='share of the channels to keep, such as 0.5')
    for flag, what in (('ms', 'milliseconds for one image on this machine'),
                       ('mb', 'megabytes of weights'),
                       ('params', 'parameters')):
        flags.add_argument(f'--budget-{flag}', type=float, metavar='N',
                           help=f'instead of --width: at most so many {what}')
    flags.add_argument('--depth', type=int, metavar='LAYERS',
                       help='also leave out every second block of the '
                       "backbone's stages that are half as deep with so many "
                       'layers, such as 18 for a ResNet-34')
    flags.add_argument('--conv-cfg', choices=list(LAYERS), metavar='TYPE',
                       help='instead of --width: convolutions of this type, '
                       f'one of {", ".join(LAYERS)}')
    flags.add_argument('--rank', type=float, metavar='SHARE',
                       help='of LowRankConv2d: share of the full rank; 0.5')
    flags.add_argument('--scheme', choices=SCHEMES, help='of LowRankConv2d: '
                       'what the two convolutions share, channel unless set')
    flags.add_argument('--parts', nargs='+', metavar='PART', help='what '
                       'gets them, such as backbone neck bbox_head; all that '
                       'mmdet can build so, or the backbone for binary ones')
    flags.add_argument('--merge', action='store_true', help='instead of '
                       '--width: write a detector that has such '
                       'convolutions with plain ones')
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
    if args.compare:
        if args.config:
            flags.error('--compare stands alone: the folder names config and '
                        'checkpoints.')
        return args
    if not args.checkpoint:
        flags.error('the following arguments are required: config and '
                    'checkpoint, or --compare')
    _check_kind(flags, args)
    if args.images < 1:
        flags.error(f'--images is {args.images}; it has to be at least 1.')
    names = [name for name, _ in args.teacher]
    if len(set(names)) < len(names):
        flags.error(f'--teacher: a name is given twice ({", ".join(names)}).')
    return args


def _check_kind(flags: argparse.ArgumentParser,
                args: argparse.Namespace) -> None:
    """Exit unless one thing is asked for; --depth alone is a whole width."""
    budgets = [getattr(args, f'budget_{flag}') for flag in BUDGETS]
    has_budget = any(budget is not None for budget in budgets)
    has_width = args.width is not None or args.depth is not None
    if args.conv_cfg or args.merge:
        if has_budget or has_width or (args.conv_cfg and args.merge):
            flags.error('--conv-cfg and --merge stand alone: without each '
                        'other, --width, --depth and budgets.')
    elif args.depth is not None and not has_budget:
        args.width = 1. if args.width is None else args.width
    elif (args.width is None) != has_budget:
        flags.error('Set either --width or a budget (--budget-ms, --budget-mb '
                    'or --budget-params), or else --conv-cfg or --merge.')
    if args.parts and not args.conv_cfg:
        flags.error('--parts needs --conv-cfg.')
    for key in LOW_RANK:
        if getattr(args, key) is not None and args.conv_cfg != 'LowRankConv2d':
            flags.error(f'--{key} needs --conv-cfg LowRankConv2d.')


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
