"""Parameters, multiply-adds and latency of detectors, in one table.

    python tools/sizes.py mmdet::retinanet/retinanet_r50_fpn_1x_coco.py \\
        configs/light/retinanet_*.py [--shape 1333 800] [--markdown FILE]

Weights are random and the image is noise, so no downloads and no data are
needed. The detectors take turns, one pass each per round, so that other work
on the machine slows all of them alike. Latency is the median over the rounds
with its 95% interval; `relative` is the median, over the rounds, of the ratio
to the latency of the first config. On a machine that does other work,
--processor-time counts only the time that the detectors have run. What is
counted: docs/light.md.
"""
import argparse
import os
import runpy
from pathlib import Path
from types import SimpleNamespace

# Alone, because the package takes ten seconds to import.
SHARED = SimpleNamespace(**runpy.run_path(
    str(Path(__file__).parents[1] / 'mtpd' / 'flags.py')))


def main() -> None:
    args = arguments()
    from mtpd.commands.sizes import sizes
    sizes(args)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='+',
                        help='config file, or mmdet::family/name.py')
    parser.add_argument('--shape', type=int, nargs=2, metavar=('W', 'H'),
                        help="size of the image; by default each config's own "
                        'test size')
    parser.add_argument('--rounds', type=int, default=11, metavar='N',
                        help='timed passes of each detector (%(default)s)')
    parser.add_argument('--threads', type=int, default=1, metavar='N',
                        help='of PyTorch on a CPU (%(default)s)')
    parser.add_argument('--processor-time', action='store_true',
                        help='count the time that the one thread has run, '
                        'instead of the time that has passed')
    parser.add_argument('--markdown', metavar='FILE', type=os.path.expanduser,
                        help='also write the table to this file')
    args = parser.parse_args()
    for flag in ('rounds', 'threads'):
        if getattr(args, flag) < 1:
            parser.error(f'--{flag} is {getattr(args, flag)}; it has to be at '
                         'least 1.')
    if args.shape and min(args.shape) < 1:
        parser.error(f'--shape is {args.shape}; width and height have to be '
                     'at least 1.')
    SHARED.stop_if(*map(SHARED.missing_config, args.config),
                   *SHARED.unwritable_file(args.markdown, '--markdown'))
    if args.processor_time and (args.threads > 1 or has_gpu()):
        parser.error('--processor-time adds up the time of all threads and '
                     'leaves out that of a GPU: it needs --threads 1 and a '
                     'CPU (CUDA_VISIBLE_DEVICES= in front of the command).')
    return args


def has_gpu() -> bool:
    import torch
    return torch.cuda.is_available()


if __name__ == '__main__':
    main()
