"""Pack a trained detector into a few bits a weight.

    python tools/pack.py student.pth --bits 6 --config student.py
    python tools/pack.py student.pth --bits 5 --prune 0.3 \\
        --fine-tune student.py
    python tools/pack.py student_packed.pth.xz

The weights of each layer share 2 ** bits values (Deep Compression). Written
are student_packed.pth, a checkpoint in 16 bits as any other, and
student_packed.pth.xz, the same compressed, which the tools here read as well.
With a .xz file alone, the checkpoint in it is unpacked, as xz -dk does.
"""
import argparse
import os
from dataclasses import fields

from mtpd.command_line import plain_errors, use_own_modules
from mtpd.compress.calibrate import IMAGES
from mtpd.pack import CannotPack, Packed, Request, pack
from mtpd.pack.errors import CannotUnpack
from mtpd.pack.files import XZ, unpack
from mtpd.pack.fine_tune import LR
from mtpd.progression.prepare import set_scope, unwritable
from mtpd.show.tables import text_table


def main() -> None:
    args = arguments()
    with plain_errors():
        use_own_modules()
        folder = os.path.dirname(args.out or '') or (
            '.' if '://' in args.checkpoint
            else os.path.dirname(args.checkpoint) or '.')
        problems = unwritable(folder, 'The folder ', '--out')
        if problems:
            raise (CannotUnpack if args.unpacks else CannotPack)(problems)
        set_scope({})
        if args.unpacks:
            if not os.path.isfile(args.checkpoint):
                raise CannotUnpack([f'There is no file {args.checkpoint}.'])
            path = unpack(args.checkpoint, args.out, args.overwrite)
            print(f'Written: {path}')
            return
        config = args.fine_tune or args.config
        made = pack(Request(
            config=config, epochs=args.epochs if args.fine_tune else 0,
            **{field.name: getattr(args, field.name) for field
               in fields(Request) if field.name not in ('config', 'epochs')}))
        report(made, args, config)


def report(made: Packed, args: argparse.Namespace,
           config: str | None) -> None:
    """Print what was made."""
    whole = made.sizes['in 32 bits']
    rows = []
    for name, what in ((args.checkpoint, 'given'),
                       ('its weights in 32 bits', 'in 32 bits'),
                       (made.files.plain, 'plain'),
                       (made.files.compressed, 'compressed')):
        size = made.sizes[what]
        rows.append([name, f'{size:,}', f'{whole / size:.2f}'])
    print(text_table('Packed', ['', 'bytes', 'times smaller than in 32 bits'],
                     rows))
    print(f'{made.tensors[0]} of {made.tensors[1]} tensors have up to '
          f'{2 ** args.bits} values each; {100 * made.zeros:.1f}% of their '
          'weights are zero.')
    for note in made.notes:
        print(f'Note: the weights were {note}.' if note.startswith('taken')
              else f'Note: {note}.')
    if made.left:
        print('Left out, as only training needs it: ' + ', '.join(made.left))
    if made.images is None:
        print('Batch norms were not measured anew, as there is no --config. '
              'With 4 bits this cost a RetinaNet 1.0 AP on BCCD.')
    elif made.images:
        print(f'Batch norms measured on {made.images} training images.')
    if config is not None:
        print(f'Its AP: python tools/test.py {config} {made.files.plain}')


def arguments() -> argparse.Namespace:
    flags = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument('checkpoint', help='weights of a trained detector, '
                       'file or URL; or a file that ends in .xz')
    flags.add_argument('--bits', type=int, default=Request.bits, metavar='N',
                       help='2 ** N values in each tensor (%(default)s)')
    flags.add_argument('--prune', type=float, default=Request.prune,
                       metavar='SHARE', help='share of the weights of each '
                       'tensor that become zero, such as 0.3')
    one = flags.add_mutually_exclusive_group()
    one.add_argument('--config', metavar='FILE', help="the detector's "
                     'config: batch norms are measured anew on its training '
                     'images')
    one.add_argument('--fine-tune', metavar='FILE', help='the same, and the '
                     'values are trained')
    flags.add_argument('--epochs', type=positive, default=1, metavar='N',
                       help='of this training (%(default)s)')
    flags.add_argument('--lr', type=float, default=LR,
                       help='its first learning rate, for Adam (%(default)s)')
    flags.add_argument('--images', type=positive, default=IMAGES, metavar='N',
                       help='training images for the batch norms '
                       '(%(default)s)')
    flags.add_argument('--out', metavar='FILE', help='the file to write, '
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
    return args


def positive(text: str) -> int:
    """A number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not above 0')
    return value


if __name__ == '__main__':
    main()
