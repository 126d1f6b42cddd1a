"""Packs a checkpoint, or unpacks a compressed one."""
import argparse
import os
import shlex
from dataclasses import fields

from mtpd.command_line import plain_errors, use_own_modules
from mtpd.flags import unwritable
from mtpd.pack import CannotPack, Packed, Request, pack
from mtpd.pack.errors import CannotUnpack
from mtpd.pack.files import unpack
from mtpd.progression.prepare import set_scope
from mtpd.show.tables import text_table


def run(args: argparse.Namespace) -> None:
    """Write the files and print their sizes; errors have no traceback.

    Args:
        args: The tool's.
    """
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
            unpack_file(args)
        else:
            pack_file(args)


def unpack_file(args: argparse.Namespace) -> None:
    """Write the checkpoint in a compressed file.

    Raises:
        CannotUnpack: The file is not here.
    """
    if not os.path.isfile(args.checkpoint):
        raise CannotUnpack([f'There is no file {args.checkpoint}.'])
    path = unpack(args.checkpoint, args.out, args.overwrite)
    print(f'Written: {path}')


def pack_file(args: argparse.Namespace) -> None:
    """Write a checkpoint in few bits a weight."""
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
        print('Its AP: ' + shlex.join(['python', 'tools/test.py', config,
                                       made.files.plain]))
