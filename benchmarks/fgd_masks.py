"""FGD's object and background weights: a loop over boxes against ours.

    python benchmarks/fgd_masks.py --device cuda

Two images of 800x1333 (padded to 800x1344) with 100 boxes each, the five
levels of strides 8 to 128. Checks that both give the same weights, then runs
them in turn and prints the median of the ratio loop / ours with its 95%
order-statistic interval. The loop reads all corners at once and paints box by
box, which is the fastest loop on a GPU: one synchronisation for each image and
level, not several for each box.
"""
import argparse
import sys
from math import ceil
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

import mtpd
from mtpd.distill.losses.fgd import region_weights
from mtpd.statistics import median_interval

SIZE = (800, 1344)
GRIDS = [(ceil(SIZE[0] / s), ceil(SIZE[1] / s)) for s in (8, 16, 32, 64, 128)]


def draw_boxes(device: str, images: int = 2, boxes: int = 100) -> list:
    """Boxes of 8 to 400 pixels a side, log-uniform, inside 800x1333."""
    torch.manual_seed(0)
    drawn = []
    for _ in range(images):
        sides = torch.exp(torch.empty(boxes, 2).uniform_(2.08, 5.99))
        corner = torch.rand(boxes, 2) * (torch.tensor([1333., 800.]) - sides)
        drawn.append(torch.cat([corner, corner + sides], dim=1).to(device))
    return drawn


def by_loop(boxes: list[Tensor], size: tuple[int, int],
            grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """As ``region_weights``, one box after another; boxes inside only."""
    objects = boxes[0].new_zeros(len(boxes), *grid)
    scale = boxes[0].new_tensor(grid[::-1]), boxes[0].new_tensor(size[::-1])
    for canvas, corners in zip(objects, boxes):
        first = (corners[:, :2] * scale[0] / scale[1]).floor().int()
        last = (corners[:, 2:] * scale[0] / scale[1]).ceil().int()
        for left, top, right, bottom in torch.cat([first, last], 1).tolist():
            share = 1 / ((right - left + 1) * (bottom - top + 1))
            canvas[top:bottom + 1, left:right + 1].clamp_(min=share)
    background = (objects == 0).float()
    for canvas in background:
        canvas /= canvas.sum().clamp(min=1)
    return objects, background


def seconds(function, boxes: list[Tensor]) -> float:
    """Of all five levels."""
    if boxes[0].is_cuda:
        torch.cuda.synchronize()
    start = perf_counter()
    for grid in GRIDS:
        function(boxes, SIZE, grid)
    if boxes[0].is_cuda:
        torch.cuda.synchronize()
    return perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--turns', type=int, default=60)
    args = parser.parse_args()
    device = torch.cuda.get_device_name() if args.device == 'cuda' \
        else f'{args.device}, {torch.get_num_threads()} thread(s)'
    print('python', *sys.argv)
    print(f'{device}; torch {torch.__version__}, mtpd {mtpd.__version__}, '
          f'Python {sys.version.split()[0]}')
    boxes = draw_boxes(args.device)
    for grid in GRIDS:
        for ours, loop in zip(region_weights(boxes, SIZE, grid),
                              by_loop(boxes, SIZE, grid), strict=True):
            torch.testing.assert_close(ours, loop)
    # The first calls allocate and, on a GPU, load kernels.
    for _ in range(3):
        seconds(by_loop, boxes), seconds(region_weights, boxes)
    loops, ours = zip(*((seconds(by_loop, boxes),
                         seconds(region_weights, boxes))
                        for _ in range(args.turns)))
    ratios = [a / b for a, b in zip(loops, ours)]
    low, high = median_interval(ratios)
    print(f'loop {1e3 * median(loops):.2f} ms, ours {1e3 * median(ours):.2f} '
          f'ms; loop / ours {median(ratios):.2f} (95% interval of the median '
          f'{low:.2f} to {high:.2f}, {args.turns} turns)')


if __name__ == '__main__':
    main()
