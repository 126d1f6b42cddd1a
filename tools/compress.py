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
import keyword
import os
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Iterator

# Alone, because the package takes ten seconds to import.
SHARED = SimpleNamespace(**runpy.run_path(
    str(Path(__file__).parents[1] / 'mtpd' / 'flags.py')))
# As in the package, which a test compares.
LAYERS = ('LowRankConv2d', 'BinaryWeightConv2d', 'XNORConv2d')
SCHEMES = ('channel', 'spatial')
IMAGES = 200
BUDGETS = ('ms', 'mb', 'params')
LOW_RANK = ('rank', 'scheme')
"""Flags of LowRankConv2d alone."""


def main() -> None:
    args = arguments()
    SHARED.stop_if(*missing(args))
    from mtpd.commands.compress import run
    run(args)


def missing(args: argparse.Namespace) -> Iterator[str]:
    """What is not there of all that the flags name."""
    if args.compare:
        work_dir, *files = args.compare
        yield SHARED.missing_work_dir(work_dir, '--compare')
        for path in files:
            yield SHARED.missing_file(path, '--compare')
        return
    yield SHARED.missing_config(args.config)
    yield SHARED.missing_file(args.checkpoint)
    for name, (config, checkpoint, _) in args.teacher:
        yield SHARED.missing_config(config, f'--teacher {name}')
        yield SHARED.missing_file(checkpoint, f'--teacher {name}')


def arguments() -> argparse.Namespace:
    flags = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument('config', nargs='?', type=os.path.expanduser,
                       help='config file of the trained detector, or '
                       'mmdet::family/name.py')
    flags.add_argument('checkpoint', nargs='?', type=os.path.expanduser,
                       help='its weights, file or URL')
    flags.add_argument('--compare', nargs='+', metavar=('WORK_DIR', 'FILE'),
                       type=os.path.expanduser,
                       help='instead of all else: the progression of this '
                       'folder with the .onnx files and packed checkpoints in '
                       'it, and others: .onnx files of the same classes, '
                       'checkpoints of its student')
    flags.add_argument('--width', type=float, metavar='SHARE',
                       help='share of the channels to keep, such as 0.5')
    for flag, what in (('ms', 'milliseconds for one image on this machine'),
                       ('mb', 'megabytes of weights'),
                       ('params', 'parameters')):
        flags.add_argument(f'--budget-{flag}', type=positive, metavar='N',
                           help=f'instead of --width: at most so many {what}')
    flags.add_argument('--depth', type=int, metavar='LAYERS',
                       help='also leave out every second block of the '
                       "backbone's stages that are half as deep with so many "
                       'layers, such as 18 for a ResNet-34')
    flags.add_argument('--conv-cfg', choices=LAYERS, metavar='TYPE',
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
    flags.add_argument('--ap', type=percent, help='box AP of the original in '
                       'percent, if those of the teachers are given too')
    flags.add_argument('--images', type=int, default=IMAGES, metavar='N',
                       help='training images on which batch norms are '
                       'measured anew (%(default)s)')
    flags.add_argument('--out', metavar='FOLDER', type=os.path.expanduser,
                       help='where the files are '
                       'written; the folder of the config')
    flags.add_argument('--overwrite', action='store_true',
                       help='replace files of the same name')
    args = flags.parse_args()
    if args.compare:
        if len(_given(flags, args)) > 1:
            flags.error('--compare stands alone: the folder names config and '
                        'checkpoints, and the table is written into it.')
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
    idle = {'--images', '--ap', '--teacher'} & _given(flags, args)
    if args.merge and idle:
        flags.error(f'{" and ".join(sorted(idle))} does nothing with --merge, '
                    'which trains and measures nothing. Leave it out.')
    if args.parts and not args.conv_cfg:
        flags.error('--parts needs --conv-cfg.')
    for key in LOW_RANK:
        if getattr(args, key) is not None and args.conv_cfg != 'LowRankConv2d':
            flags.error(f'--{key} needs --conv-cfg LowRankConv2d.')


def _given(flags: argparse.ArgumentParser,
           args: argparse.Namespace) -> set[str]:
    """The flags that are not at their defaults."""
    return {f'--{name.replace("_", "-")}' for name, value
            in vars(args).items() if value != flags.get_default(name)}


def teacher(text: str) -> tuple[str, tuple[str, str, float | None]]:
    """``NAME=CONFIG,CHECKPOINT[,AP]``."""
    name, equals, rest = text.partition('=')
    parts = rest.split(',')
    if not name.isidentifier() or keyword.iskeyword(name) or not equals \
            or len(parts) not in (2, 3) or not all(parts):
        raise argparse.ArgumentTypeError(
            f'{text} is not NAME=CONFIG,CHECKPOINT or '
            'NAME=CONFIG,CHECKPOINT,AP')
    try:
        ap = percent(parts[2]) if len(parts) == 3 else None
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise argparse.ArgumentTypeError(
            f'{parts[2]} in {text} is no AP in percent, from 0 to 100') \
            from error
    return name, (os.path.expanduser(parts[0]), os.path.expanduser(parts[1]),
                  ap)


def positive(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(
            f'{text} has to be a number above 0, and finite')
    return value


def percent(text: str) -> float:
    """A number from 0 to 100."""
    value = float(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(
            f'{text} has to be a percentage from 0 to 100')
    return value


if __name__ == '__main__':
    main()
