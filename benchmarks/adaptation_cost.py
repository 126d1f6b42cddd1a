"""What the adaptation costs cost, and what the paper's way of them would.

    python benchmarks/adaptation_cost.py --only pass memory      # CPU, minutes
    python benchmarks/adaptation_cost.py --only pass memory --device cuda
    python benchmarks/adaptation_cost.py --only sgd stride4 --data COCO_FOLDER
    python benchmarks/adaptation_cost.py --only sgd --images 60 \\
        --trained configs/bccd/progression.py --lr 1e-4 3e-4 1e-3 3e-3
    python benchmarks/adaptation_cost.py --thin                  # smoke test

Detectors are mmdet's own configs with random weights (nothing is downloaded)
or, in `sgd`, a trained pool; images are those of a COCO-format folder
(annotations/*train*.json, train2017/) through the test pipeline at --size, or
noise of exactly that size. They are loaded before any clock runs: decoding is
part of neither side. Intervals are 95% of a median (order statistics; below 6
pairs the range). `--out` keeps all numbers.

pass     One real `gather` into a `MomentStore` (forwards, masks, products,
         sums, saving to disk with fsync) against the bare forwards of the same
         detectors (to the device, normalise, pad, backbone, neck; no_grad),
         in turn image by image: whenever `gather` asks for an image, its
         clock stops and the bare forwards of that image run, before or after
         it alternately. Two ratios: the median of the images, which leaves
         out the saves between them; and all of the pass, saves and all else
         that comes once per fold or run, over all bare forwards. The project's
         bound, 1.10, is on the latter. Then the time to solve all costs with
         ten filled folds (a fold without an image gets another's sums; files
         in the page cache), and the store's size. The temporary folder
         (TMPDIR) needs 2 GB for 8 teachers.
memory   Peak beside the models of bare forwards and of the pass, each in a
         process of its own: anonymous resident memory, read every 10 ms, less
         that after the models were built and the images loaded; on a GPU
         also torch's peak there. All images lie in one fold, so that sums
         are merged with saved ones. The project's bound is 1 GB.
sgd      Exact least squares against `gradient_descent_costs`: both fitted on
         the same images and scored on the same others (two folds of ten,
         here by an image's number), from maps in memory. Seconds are those of
         fitting (sums and solution; training), without the scoring, which is
         the same for both, and with the forwards, once or in every epoch.
stride4  Costs at stride 4 from all positions and from the drawn share, and the
         time of a pass over strides 4 to 64 with each, in turn, without saves.
"""
import argparse
import ctypes
import gc
import json
import platform
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout, suppress
from fractions import Fraction
from itertools import permutations
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import mmcv
import mmdet
import mtpd  # noqa: F401  (registers everything)
import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mtpd.distill.detector import build_detector
from mtpd.order.costs import AdaptationCosts
from mtpd.order.gradient_descent import gradient_descent_costs
from mtpd.order.held_out import adaptation_costs
from mtpd.order.least_squares import fit_linear_map
from mtpd.order.map_batch import MapBatch
from mtpd.order.moments import FeatureMoments
from mtpd.plan.detectors import load_config
from mtpd.plan.pool import build_pool, common_strides
from mtpd.progression import make_plan
from mtpd.randomness import isolate_rng
from mtpd.search.feature_maps import FINE_SHARE, FeatureMaps
from mtpd.search.gather import gather
from mtpd.search.images import FOLDS, ImageBatch, Images
from mtpd.search.moment_store import MomentStore
from mtpd.statistics import median_interval
from torch import Tensor

CONFIGS = {
    'retina_r50': 'retinanet/retinanet_r50_fpn_1x_coco.py',
    'mask_swin_t': 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
    'retina_x101': 'retinanet/retinanet_x101-64x4d_fpn_1x_coco.py',
    'mask_swin_s': 'swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py',
    'retina_r101': 'retinanet/retinanet_r101_fpn_1x_coco.py',
    'faster_r50': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mask_r50': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'mask_r101': 'mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py',
    'cascade_r50': 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py'}
"""The student and its teachers, all with 256 channels at strides 8 to 64."""

STRIDES = (8, 16, 32, 64)
GRID = Fraction(1)
HELD_OUT = (0, 1)
"""Of ten folds, those that `sgd` scores on."""

EPOCHS, MANY_EPOCHS, NEAR = 12, 200, 0.01
SIZES = {'pass': (800, 1333), 'memory': (800, 1333), 'sgd': (400, 667),
         'stride4': (400, 667)}
IMAGES = {'pass': 5, 'memory': 3, 'sgd': 36, 'stride4': 12}


def main() -> None:
    args = arguments()
    set_up()
    print('; '.join([
        torch.cuda.get_device_name() if args.device == 'cuda' else
        f'{platform.machine()}, {torch.get_num_threads()} threads',
        f'torch {torch.__version__}, mmdet {mmdet.__version__}',
        f'seed {args.seed}',
        *(['thin'] if args.thin else [])]), flush=True)
    results = dict(arguments=vars(args), torch=torch.__version__)
    for section in args.only:
        size, count = size_of(section, args), count_of(section, args)
        print(f'{section}: ' + (
            f'{count} images of {args.trained}'
            if section == 'sgd' and args.trained else
            f'{count} images of {args.data or "noise"} at '
            f'{size[0]}x{size[1]}'), flush=True)
        with TemporaryDirectory() as folder:
            results[section] = SECTIONS[section](args, folder)
        if args.out:
            Path(args.out).write_text(json.dumps(results, indent=1))


# ---------------------------------------------------------------- the sections


def time_of_pass(args: argparse.Namespace, folder: str) -> list[dict]:
    cfg = student_config('pass', args, folder)
    results = []
    for teachers in args.teachers:
        pool = detectors(list(CONFIGS)[:1 + teachers], args)
        images = InTurn(cfg, count_of('pass', args), pool, args.device)
        feature_maps = FeatureMaps(pool, images, STRIDES)
        warm_up = Path(folder) / f'warm_up{teachers}'
        gather(feature_maps, store_of(pool, warm_up), images.chosen[:1])
        images.floor.clear()
        images.passes.clear()
        store = store_of(pool, Path(folder) / f'store{teachers}')
        seconds = seconds_of(
            lambda: gather(feature_maps, store, images.chosen), args.device)
        floor = list(images.floor.values())
        passes = list(images.passes.values())
        seconds -= sum(floor)
        per_fold = bytes_in(store) / len(store.moments(GRID).filled_folds(8))
        fill_folds(store)
        with warnings.catch_warnings(action='ignore'):  # few positions
            solve = seconds_of(lambda: adaptation_costs(store.moments(GRID)),
                               args.device)
        results.append(dict(
            teachers=teachers, floor=floor, passes=passes, pass_in_all=seconds,
            saves=store.saves, solve=solve, bytes_of_fold=per_fold))
        what = f'1 student + {teachers} teachers'
        print_ratio(f'{what}, an image of the pass / its bare forwards',
                    passes, floor)
        print(f'{what}, all of the pass / all bare forwards: '
              f'{seconds / sum(floor):.3f}; in it {len(store.saves)} saves of '
              f'{statistics.median(store.saves):.2f} s\n'
              f'{what}: all costs solved from ten folds in {solve:.1f} s; on '
              f'disk {per_fold / 2**20:.0f} MiB a fold', flush=True)
    return results


def memory(args: argparse.Namespace, folder: str) -> dict:
    results = {}
    for what in ('bare forwards', 'pass'):
        # Of its own: what an allocator keeps would hide the second's needs.
        with ProcessPoolExecutor(1, get_context('spawn')) as process:
            results[what] = process.submit(peak_of, what, args,
                                           folder).result()
    models = results['pass']['before']
    for kind in models:
        bare, ours = (
            (results[what]['peak'][kind] - results[what]['before'][kind])
            / 1e6 for what in ('bare forwards', 'pass'))
        print(f'{kind}, beside {models[kind] / 1e6:.0f} MB with the models: '
              f'bare forwards {bare:.0f} MB, pass {ours:.0f} MB, of it '
              f'{ours - bare:.0f} MB its own', flush=True)
    return results


def peak_of(what: str, args: argparse.Namespace, folder: str) -> dict:
    """Bytes held by a fresh process before and at the worst moment."""
    set_up()
    pool = detectors(list(CONFIGS)[:1 + max(args.teachers)], args)
    images = OneFold(student_config('memory', args, folder),
                     count_of('memory', args))
    # For both: its dry passes warm the libraries up.
    feature_maps = FeatureMaps(pool, images, STRIDES)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with Peak(args.device) as peak:
        if what == 'pass':
            gather(feature_maps, store_of(pool, Path(folder) / 'store'),
                   images.chosen)
        else:
            for index in images.chosen:
                bare_forwards(pool, images.raw[index], args.device)
    return dict(before=peak.before, peak=peak.worst)


def sgd(args: argparse.Namespace, folder: str) -> dict:
    if args.trained:
        plan = make_plan(load_config(args.trained))
        pool = build_pool(plan)
        strides, cfg = common_strides(plan, pool), plan.student.config
    else:
        pool = detectors(['retina_r50', 'mask_swin_t'], args)
        cfg, strides = student_config('sgd', args, folder), STRIDES
    for detector in pool.values():
        detector.to(args.device)
    images = Loaded(cfg, count_of('sgd', args))
    feature_maps = FeatureMaps(pool, images, strides)
    batches: list[MapBatch] = []

    def look() -> None:
        for number, index in enumerate(images.chosen):
            (_, maps), = feature_maps([[index]])
            batches.append(maps[GRID]._replace(folds=[number % FOLDS]))

    forwards = seconds_of(look, args.device)
    fitting, scored = ([b for b in batches if (b.folds[0] in HELD_OUT) is held]
                       for held in (False, True))
    print(f'{", ".join(pool)}: fitted on {len(fitting)} images, scored on '
          f'{len(scored)}; forwards of all {forwards:.1f} s', flush=True)

    moments, maps = FeatureMoments(feature_maps.channels, FOLDS), {}
    pairs = list(permutations(pool, 2))

    def add() -> None:
        for batch in fitting:
            moments.add(*batch)

    def solve() -> None:
        for source, target in pairs:
            for s in strides:
                maps[source, target, s] = fit_linear_map(moments, s, source,
                                                         target)

    adding, solving = (seconds_of(f, args.device) for f in (add, solve))
    exact = Errors.of_maps(maps, batches)
    result = dict(
        forwards=forwards, adding=adding, solving=solving,
        exact=exact.to_json(), after_12_epochs={}, seconds_of_epoch={},
        near={})
    spread = {(target, s): torch.cat([rows_of(b, s)[target] for b in batches])
              .double().var(0, correction=0).mean().item()
              for target in pool for s in strides}
    for source, target in pairs:
        share = {s: exact.held_out[source, target, s] / spread[target, s]
                 for s in strides}
        print(f'exact, {source} -> {target}: held-out error over variance '
              + ', '.join(f'{of:.4f} at {s}' for s, of in share.items())
              + f'; of fitting {exact.cost("fitting", source, target):.4g}, '
              f'held out {exact.cost("held_out", source, target):.4g}')
    took = adding + solving
    print(f'exact: {took:.2f} s ({adding:.2f} sums, {solving:.2f} solution)',
          flush=True)

    worst = {}
    for lr in args.lr:
        try:
            costs, epochs = descent(feature_maps, fitting, batches, lr, EPOCHS,
                                    args)
        except ValueError as error:
            print(f'sgd, lr {lr:g}, {EPOCHS} epochs: {error}', flush=True)
            continue
        errors = Errors.of_costs(costs)
        result['after_12_epochs'][lr] = errors.to_json()
        result['seconds_of_epoch'][lr] = epochs
        above = {part: {p: errors.cost(part, *p) / exact.cost(part, *p) - 1
                        for p in pairs} for part in ('held_out', 'fitting')}
        worst[lr] = max(above['held_out'].values())
        print(f'sgd, lr {lr:g}, {EPOCHS} epochs of '
              f'{statistics.median(epochs):.2f} s, above exact: ' + '; '.join(
                  f'{part.replace("_", " ")} {in_short(of)}'
                  for part, of in above.items()), flush=True)
    if not worst:
        print('sgd: no rate that does not diverge; set lower ones by --lr')
        return result
    best = min(worst, key=worst.get)
    print(f'best of these, by its worst pair: lr {best:g}')
    for lr in sorted((lr for lr in worst if lr <= best), reverse=True):
        excess, epochs = until_near(feature_maps, fitting, scored, lr, exact,
                                    args)
        result['near'][lr] = dict(seconds=epochs, excess={
            f'{a} -> {b}': of for (a, b), of in excess.items()})
        near = [when for when in map(when_near, excess.values()) if when]
        print(f'sgd, lr {lr:g} falling over {MANY_EPOCHS} epochs, stopped '
              f'after {len(epochs)}, {sum(epochs):.1f} s: {len(near)} of '
              f'{len(pairs)} within {NEAR:.0%} of exact, held out'
              + (f', after {", ".join(map(str, near))}' if near else '')
              + '; at last above it ' + in_short(
                  {pair: of[-1] for pair, of in excess.items()}), flush=True)
        if not any(map(diverges, excess.values())):
            break
    trained = sum(epochs)
    again = forwards * (len(epochs) * len(fitting) + len(scored)) \
        / len(batches)
    print(f'sgd / exact: {trained / took:.0f} times as long without forwards, '
          f'{(trained + forwards) / (took + forwards):.1f} with one look at '
          f'all images, {(trained + again) / (took + forwards):.1f} with a '
          'look in every epoch', flush=True)
    return result


def until_near(feature_maps: FeatureMaps, fitting: Sequence[MapBatch],
               scored: Sequence[MapBatch], lr: float, exact: 'Errors',
               args: argparse.Namespace
               ) -> tuple[dict[tuple[str, str], list[float]], list[float]]:
    """Train until all costs are near the exact ones, or one has diverged.

    A rate that does well in 12 epochs may be too high for 200: it was falling
    fast enough only there.

    Returns:
        Pair -> part above the exact cost after each epoch, held out, and the
        seconds of each epoch.
    """
    class Stop(Exception):
        pass

    excess: dict[tuple[str, str], list[float]] = {}
    seconds: list[float] = []

    def look(_: int, costs: AdaptationCosts) -> None:
        for pair in costs.pairs:
            excess.setdefault(pair, []).append(
                costs.cost(*pair) / exact.cost('held_out', *pair) - 1)
        if all(min(of) <= NEAR for of in excess.values()) or any(
                map(diverges, excess.values())):
            raise Stop

    with suppress(Stop):
        descent(feature_maps, fitting, scored, lr, MANY_EPOCHS, args, look,
                seconds)
    return excess, seconds


def diverges(excess: Sequence[float]) -> bool:
    return 1 + excess[-1] > 10 * (1 + min(excess))


def when_near(excess: Sequence[float]) -> int | None:
    return next((epoch for epoch, above in enumerate(excess, 1)
                 if above <= NEAR), None)


def in_short(above: dict[tuple[str, str], float]) -> str:
    """Each pair's, or of many the median and the worst."""
    worst = max(above, key=above.get)
    if len(above) > 2:
        return (f'{percent(statistics.median(above.values()))} median, '
                f'{percent(above[worst])} worst ({" -> ".join(worst)})')
    return ', '.join(f'{percent(value)} ({a} -> {b})'
                     for (a, b), value in above.items())


def percent(above: float) -> str:
    return f'{above:+.1%}' if above < 10 else f'x {1 + above:.2g}'


def descent(feature_maps: FeatureMaps, fitting: Sequence[MapBatch],
            scored: Sequence[MapBatch], lr: float, epochs: int,
            args: argparse.Namespace,
            after_epoch: Callable[[int, AdaptationCosts], None] | None = None,
            seconds: list[float] | None = None
            ) -> tuple[AdaptationCosts, list[float]]:
    """The costs, and the seconds of each epoch without its scoring."""
    seconds = [] if seconds is None else seconds
    began = 0.

    def shuffled(epoch: int) -> list[MapBatch]:
        nonlocal began
        now = clock(args.device)
        if after_epoch is None and epoch:
            seconds.append(now - began)
        began = now
        order = torch.randperm(len(fitting), generator=torch.Generator()
                               .manual_seed(args.seed + epoch))
        return [fitting[i] for i in order]

    def held_out() -> Sequence[MapBatch]:
        seconds.append(clock(args.device) - began)
        return scored

    return gradient_descent_costs(
        shuffled, held_out, feature_maps.channels, FOLDS, epochs, lr,
        seed=args.seed, after_epoch=after_epoch), seconds


def stride4(args: argparse.Namespace, folder: str) -> dict:
    names = ('mask_r50', 'mask_swin_t', 'faster_r50')
    cfg = student_config('stride4', args, folder, names[0])
    pool = detectors(names, args)
    images = Loaded(cfg, count_of('stride4', args))
    sums, sides = {}, {}
    for share in (1., FINE_SHARE):
        feature_maps = FeatureMaps(pool, images, (4, *STRIDES),
                                   fine_share=share)
        sums[share] = FeatureMoments(feature_maps.channels, FOLDS)

        def add(index: int, feature_maps: FeatureMaps = feature_maps,
                into: FeatureMoments = sums[share]) -> None:
            for _, maps in feature_maps([[index]]):
                into.add(*maps[GRID])

        sides[f'share {share:g}'] = add
    sides['bare forwards'] = lambda index: bare_forwards(
        pool, images.raw[index], args.device)
    bare_forwards(pool, images.raw[images.chosen[0]], args.device)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for turn, index in enumerate(images.chosen):
        order = list(sides)[turn % 3:] + list(sides)[:turn % 3]
        for side in order:
            seconds[side].append(seconds_of(
                lambda: sides[side](index), args.device))
    whole, part = (f'share {share:g}' for share in sums)
    for one, other in ((whole, part), (whole, 'bare forwards'),
                       (part, 'bare forwards')):
        print_ratio(f'{one} / {other}', seconds[one], seconds[other])
    with warnings.catch_warnings(action='ignore'):  # few positions at 64
        costs = {share: adaptation_costs(of).restricted(strides=[4])
                 for share, of in sums.items()}
    for pair in permutations(names, 2):
        all_, some = (costs[share].cost(*pair) for share in sums)
        print(f'{pair[0]} -> {pair[1]} at stride 4: {all_:.5g}, of the share '
              f'{some:.5g} ({some / all_ - 1:+.2%})')
    for target in names:
        a, b = (name for name in names if name != target)
        of_all, of_some = (costs[share].difference(a, b, target)
                           for share in sums)
        print(f'{a} - {b} into {target}: {of_all.value:.4g} with a standard '
              f'error of {of_all.error:.3g}; of the share '
              f'{of_some.value:.4g}, {of_some.error:.3g}')
    return dict(seconds=seconds, costs={
        share: of.to_json() for share, of in costs.items()})


SECTIONS = {'pass': time_of_pass, 'memory': memory, 'sgd': sgd,
            'stride4': stride4}


# ------------------------------------------------------- detectors, images


def detectors(names: Sequence[str], args: argparse.Namespace
              ) -> dict[str, BaseDetector]:
    """On the device, random weights; no two the same."""
    pool = {}
    with isolate_rng(args.seed):
        for name in names:
            model = load_config(f'mmdet::{CONFIGS[name]}').model
            model.backbone.init_cfg = None  # a download
            if args.thin:
                sys.path.append(str(Path(__file__).parents[1] / 'tests'))
                from shrink import shrunk
                model = shrunk(model)
            pool[name] = build_detector(model)
            pool[name].init_weights()
            pool[name].to(args.device).eval()
    return pool


def student_config(section: str, args: argparse.Namespace, folder: str,
                   student: str = 'retina_r50') -> Config:
    """Its test pipeline loads the images at the section's size."""
    cfg = load_config(f'mmdet::{CONFIGS[student]}')
    size = size_of(section, args)
    root = Path(args.data).resolve() if args.data else noise(
        Path(folder) / 'noise', size, count_of(section, args), args.seed)
    annotations, = root.glob('annotations/*train*.json')
    cfg.train_dataloader.dataset.update(data_root=f'{root}/',
                                        ann_file=str(annotations))
    for step in cfg.val_dataloader.dataset.pipeline:
        if step['type'] == 'Resize':
            step['scale'] = size[::-1]
    cfg.val_dataloader.update(batch_size=1, num_workers=0,
                              persistent_workers=False)
    return cfg


def noise(root: Path, size: tuple[int, int], count: int, seed: int) -> Path:
    """A COCO-format folder of noise images without labels."""
    random = np.random.default_rng(seed)
    height, width = size
    images = [dict(id=i, file_name=f'{i}.jpg', height=height, width=width)
              for i in range(count)]
    for image in images:
        mmcv.imwrite(random.integers(0, 256, (*size, 3), np.uint8),
                     str(root / 'train2017' / image['file_name']))
    (root / 'annotations').mkdir(exist_ok=True)
    (root / 'annotations' / 'instances_train2017.json').write_text(
        json.dumps(dict(images=images, annotations=[], categories=[])))
    return root


class Loaded(Images):
    """Images that lie in memory.

    Attributes:
        chosen: Their indices.
        raw: Index -> (3, H, W).
    """

    def __init__(self, student: Config, count: int) -> None:
        with redirect_stdout(None):  # pycocotools says that it loads
            super().__init__(student)
        self.chosen = self.spread(count)
        if len(self.chosen) < count:
            print(f'There are only {len(self.chosen)} images.')
        self.raw = {index: views[GRID][0] for (index,), views
                    in Images.load(self, [[i] for i in self.chosen])}

    def load(self, batches: Sequence[list[int]]) -> Iterator[ImageBatch]:
        for batch in batches:
            yield ImageBatch(batch, {
                GRID: [self.raw[index] for index in batch]})


class OneFold(Loaded):
    """Their sums are merged with what is saved."""

    def fold(self, index: int) -> int:
        return 0


class InTurn(Loaded):
    """Runs bare forwards of each image beside whoever asks for images.

    Attributes:
        floor: Index -> seconds of the bare forwards.
        passes: Index -> seconds from handing the image out to the next
            question.
    """

    def __init__(self, student: Config, count: int,
                 pool: dict[str, BaseDetector], device: str) -> None:
        super().__init__(student, count)
        self.floor: dict[int, float] = {}
        self.passes: dict[int, float] = {}
        self._pool, self._device = pool, device

    def load(self, batches: Sequence[list[int]]) -> Iterator[ImageBatch]:
        for batch in super().load(batches):
            index, = batch.indices
            # Who goes first alternates: heat and caches favour neither.
            first = len(self.floor) % 2 == 0
            if first:
                self._bare(index)
            began = clock(self._device)
            yield batch
            self.passes[index] = clock(self._device) - began
            if not first:
                self._bare(index)

    def _bare(self, index: int) -> None:
        self.floor[index] = seconds_of(lambda: bare_forwards(
            self._pool, self.raw[index], self._device), self._device)


@torch.no_grad()
def bare_forwards(pool: dict[str, BaseDetector], image: Tensor,
                  device: str) -> None:
    for detector in pool.values():
        detector.extract_feat(detector.data_preprocessor(
            {'inputs': [image.to(device)], 'data_samples': None})['inputs'])


# ---------------------------------------------------------------------- stores


class TimedStore(MomentStore):
    """Its ``saves`` are the seconds of each."""

    saves: list[float]

    def add(self, *args) -> None:
        began = time.perf_counter()
        super().add(*args)
        self.saves.append(time.perf_counter() - began)


def store_of(pool: dict[str, BaseDetector], folder: Path) -> TimedStore:
    store = TimedStore(str(folder), {'strides': list(STRIDES),
                                     'grids': [str(GRID)]},
                       dict.fromkeys(pool))
    store.saves = []
    return store


def fill_folds(store: MomentStore) -> None:
    """With copies: what solving takes does not depend on the values."""
    filled = store.moments(GRID).filled_folds(STRIDES[0])
    there = store.moments(GRID).state_dict()
    for number, fold in enumerate(sorted(set(range(FOLDS)) - set(filled))):
        of = filled[number % len(filled)]
        part = {sums: {s: {fold: by_fold[of]}
                       for s, by_fold in there[sums].items()}
                for sums in ('count', 'total', 'outer')}
        MomentStore.add(store, fold, {GRID: FeatureMoments.from_state_dict(
            {**there, **part})}, [])


def bytes_in(store: MomentStore) -> int:
    return sum(path.stat().st_size for path in Path(store.folder).iterdir())


# ---------------------------------------------------------------------- errors


class Errors:
    """Mean squared errors of linear maps, apart for the two kinds of images.

    Attributes:
        fitting: (source, target, stride) -> of those that were fitted on.
        held_out: The same of the others.
    """

    def __init__(self, sums: dict, counts: dict) -> None:
        """Sums and counts of positions: (source, target, stride) -> fold."""
        self.fitting, self.held_out = ({
            key: sum(of[f] for f in folds) / sum(counts[key][f] for f in folds)
            for key, of in sums.items()} for folds in (
                [f for f in range(FOLDS) if f not in HELD_OUT], HELD_OUT))

    @classmethod
    def of_costs(cls, costs: AdaptationCosts) -> 'Errors':
        """Of costs that were scored on all images."""
        keys = [(*pair, s) for pair in costs.pairs for s in costs.strides]
        errors, positions = costs.folds
        return cls({(a, b, s): errors[costs.at(s, a, b)].tolist()
                    for a, b, s in keys},
                   {(a, b, s): positions[costs.at(s, b)].tolist()
                    for a, b, s in keys})

    @classmethod
    def of_maps(cls, maps: dict, batches: Sequence[MapBatch]) -> 'Errors':
        """Of linear maps, scored directly on the features, in float64."""
        sums, counts = ({key: [0.] * FOLDS for key in maps} for _ in range(2))
        for batch in batches:
            fold, = batch.folds
            for s in {s for *_, s in maps}:
                rows = {name: of.double() for name, of
                        in rows_of(batch, s).items()}
                for (a, b, stride), linear in maps.items():
                    if stride == s:
                        device = rows[a].device
                        residual = rows[a] @ linear.weight.T.to(device) \
                            + linear.bias.to(device) - rows[b]
                        sums[a, b, s][fold] += residual.square().mean(
                            1).sum().item()
                        counts[a, b, s][fold] += len(residual)
        return cls(sums, counts)

    def cost(self, part: str, source: str, target: str) -> float:
        """Mean over levels; ``part`` is 'fitting' or 'held_out'."""
        return statistics.mean(
            error for (a, b, _), error in getattr(self, part).items()
            if (a, b) == (source, target))

    def to_json(self) -> dict:
        return {part: {f'{a} -> {b} at {s}': error for (a, b, s), error
                       in getattr(self, part).items()}
                for part in ('fitting', 'held_out')}


def rows_of(batch: MapBatch, stride: int) -> dict[str, Tensor]:
    """Name -> (P, C), the valid positions."""
    return {name: of[stride].movedim(1, -1)[batch.valid[stride]]
            for name, of in batch.maps.items()}


# ------------------------------------------------------------------- measuring


def set_up() -> None:
    DefaultScope.get_instance('benchmark', scope_name='mmdet')
    MMLogger.get_instance('benchmark', log_level='ERROR')


def clock(device: str) -> float:
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(work: Callable[[], object], device: str) -> float:
    began = clock(device)
    work()
    return clock(device) - began


def print_ratio(what: str, one: Sequence[float], other: Sequence[float]
                ) -> None:
    """Median ratio of times measured in turn, and its 95% interval."""
    ratios = [a / b for a, b in zip(one, other, strict=True)]
    low, high = median_interval(ratios)
    print(f'{what}: {statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}] '
          f'over {len(ratios)} pairs; the latter '
          f'{statistics.median(other):.3f} s', flush=True)


class Peak:
    """Bytes that the process holds before a block, and the most within.

    Attributes:
        before: Kind of memory -> bytes.
        worst: The same, at each kind's worst moment.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device == 'cuda'
        self._over = threading.Event()

    def __enter__(self) -> 'Peak':
        self.before = self._read()
        self.worst = dict(self.before)
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()
        if self._cuda:
            self.worst['GPU memory'] = torch.cuda.max_memory_allocated()

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            for kind, held in self._read().items():
                self.worst[kind] = max(self.worst[kind], held)

    def _read(self) -> dict[str, int]:
        with open('/proc/self/status') as file:
            of = dict(line.split(':', 1) for line in file)
        read = {kind: 1024 * int(of[key].split()[0]) for kind, key in (
            ('anonymous memory', 'RssAnon'), ('with file pages', 'VmRSS'))}
        if self._cuda:
            read['GPU memory'] = torch.cuda.memory_allocated()
        return read


def size_of(section: str, args: argparse.Namespace) -> tuple[int, int]:
    return tuple(args.size or ((256, 320) if args.thin else SIZES[section]))


def count_of(section: str, args: argparse.Namespace) -> int:
    # A GPU's pass is mostly saves where they come after an image or two.
    many = 200 if section == 'pass' and args.device == 'cuda' else 0
    return args.images or many or IMAGES[section]


def arguments() -> argparse.Namespace:
    made = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument('--only', nargs='+', choices=SECTIONS,
                      default=list(SECTIONS))
    made.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    made.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'))
    made.add_argument('--images', type=int)
    made.add_argument('--teachers', type=int, nargs='+', default=[8, 2],
                      help='of `pass`; `memory` takes the largest')
    made.add_argument('--data', help='COCO-format folder')
    made.add_argument('--trained', help='mtpd config of a pool, for `sgd`')
    made.add_argument('--lr', type=float, nargs='+', help='of `sgd`',
                      default=[.01, .1, .3, 1., 10.])
    made.add_argument('--thin', action='store_true')
    made.add_argument('--seed', type=int, default=0)
    made.add_argument('--out', help='JSON file for all numbers')
    args = made.parse_args()
    if args.device != get_device():
        made.error(f'mmengine runs on {get_device()}; for the CPU of a '
                   "machine with a GPU set CUDA_VISIBLE_DEVICES=''.")
    return args


if __name__ == '__main__':
    main()
