"""Makes a smaller detector of a trained one, or compares what was made."""
import argparse
import os
from functools import partial
from typing import Sequence

import torch

from mtpd.analysis.sizes import network_pass, test_size
from mtpd.analysis.variants import find_variants, measure_variants
from mtpd.analysis.variants_table import variants_table, write_variants
from mtpd.command_line import plain_errors, use_own_modules
from mtpd.compress import CannotSlice
from mtpd.compress.compress import Compressed, Request, compress
from mtpd.compress.files import Files, Teacher, train_command
from mtpd.compress.layers.command import (Layered, LayerRequest, merge_layers,
                                          replace_layers)
from mtpd.deploy.latency import Milliseconds
from mtpd.flags import unwritable
from mtpd.plan.detectors import load_config
from mtpd.progression.history import read_history, read_plan
from mtpd.progression.prepare import set_scope
from mtpd.show.tables import text_table

BUDGETS = {'ms': 'ms', 'mb': 'MB', 'params': 'parameters'}
"""Flag -> unit."""
LOW_RANK = ('rank', 'scheme')
"""Flags of LowRankConv2d alone."""


def run(args: argparse.Namespace) -> None:
    """Make a smaller detector, or compare what was made; errors have no
    traceback.

    Args:
        args: The tool's.
    """
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
            teachers=teachers_of(args), images=args.images,
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


def teachers_of(args: argparse.Namespace) -> dict[str, Teacher]:
    """The further teachers by name."""
    return {name: Teacher(*parts) for name, parts in args.teacher}


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
        teachers=teachers_of(args), images=args.images))


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
        print('It is not usable before it is trained: '
              + train_command(made.files))


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
    print(f'It is not usable before it is trained: '
          f'{train_command(made.files)}')
