"""Pack a trained detector into a few bits a weight.

    python tools/pack.py student.pth --bits 6 --config student.py
    python tools/pack.py student.pth --bits 5 --prune 0.3 \\
        --fine-tune student.py
    python tools/pack.py student_packed.pth.xz

The weights of each layer share 2 ** bits values (Deep Compression); those of
binary layers stay signs and scales, if --config tells of them. Written
are student_packed.pth, a checkpoint in 16 bits as any other, and
student_packed.pth.xz, the same compressed, which the tools here read as well.
With a .xz file alone, the checkpoint in it is unpacked, as xz -dk does.
"""
import argparse
import os
import runpy
from pathlib import Path
from types import SimpleNamespace

# Alone, because the package takes ten seconds to import.
SHARED = SimpleNamespace(**runpy.run_path(
    str(Path(__file__).parents[1] / 'mtpd' / 'flags.py')))
# As in the package, which a test compares.
XZ = '.xz'
BITS, PRUNE, LR, IMAGES = 6, 0, 1e-4, 200


def main() -> None:
    args = arguments()
    SHARED.stop_if(SHARED.missing_file(args.checkpoint),
                   SHARED.missing_config(args.config, '--config'),
                   SHARED.missing_config(args.fine_tune, '--fine-tune'))
    from mtpd.commands.pack import run
    run(args)


def arguments() -> argparse.Namespace:
    flags = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument('checkpoint', type=os.path.expanduser,
                       help='weights of a trained detector, file or URL; or '
                       'a file that ends in .xz')
    flags.add_argument('--bits', type=int, default=BITS, metavar='N',
                       help='2 ** N values in each tensor (%(default)s)')
    flags.add_argument('--prune', type=float, default=PRUNE,
                       metavar='SHARE', help='share of the weights of each '
                       'tensor that become zero, such as 0.3')
    one = flags.add_mutually_exclusive_group()
    one.add_argument('--config', metavar='FILE', type=os.path.expanduser,
                     help="the detector's "
                     'config: batch norms are measured anew on its training '
                     'images')
    one.add_argument('--fine-tune', metavar='FILE', type=os.path.expanduser,
                     help='the same, and the '
                     'values are trained')
    flags.add_argument('--epochs', type=positive, default=1, metavar='N',
                       help='of this training (%(default)s)')
    flags.add_argument('--lr', type=float, default=LR,
                       help='its first learning rate, for Adam (%(default)s)')
    flags.add_argument('--images', type=positive, default=IMAGES, metavar='N',
                       help='training images for the batch norms '
                       '(%(default)s)')
    flags.add_argument('--out', metavar='FILE', type=os.path.expanduser,
                       help='the file to write, '
                       '.pth; the other gets the same name and .xz')
    flags.add_argument('--overwrite', action='store_true',
                       help='replace files of the same name')
    args = flags.parse_args()
    args.unpacks = args.checkpoint.lower().endswith(XZ)
    kept = ('checkpoint', 'unpacks', 'out', 'overwrite')
    given = [f'--{name.replace("_", "-")}' for name, value
             in vars(args).items()
             if name not in kept and value != flags.get_default(name)]
    if args.unpacks and given:
        flags.error(f'{args.checkpoint} is compressed and will be unpacked, '
                    f'for which {", ".join(given)} does nothing. Leave it '
                    'out, or unpack first and pack what is in it.')
    if not args.fine_tune:
        for name in {'--epochs', '--lr'} & {*given}:
            flags.error(f'{name} needs --fine-tune FILE.')
        if not args.config and '--images' in given:
            flags.error('--images needs --config or --fine-tune.')
    return args


def positive(text: str) -> int:
    """A number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not above 0')
    return value


if __name__ == '__main__':
    main()
