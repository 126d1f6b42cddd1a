"""A distillation step against its floor, and the teacher's share of memory.

    python benchmarks/training_step.py                     # CPU, 256x256
    python benchmarks/training_step.py --device cuda --size 800 1344 --batch 8

The floor, written by hand below: the student's own training step, one
inference of the teacher's backbone and neck, and the loss between their maps.
Floor and distiller are measured in turn, in one run; the median ratio of the
pairs is printed with its 95% interval (order statistics). The options of
``mtpd.fast_teacher`` are compared with the plain distiller in the same way.
With ``--unlabelled N``, steps have N images without labels besides, and the
floor makes one batch of all images for the teacher.
At the end comes the peak memory of a step with and without a teacher.
"""
import argparse
import copy
import platform
import statistics
import tempfile
import time
from collections.abc import Callable

import mmdet
import mtpd  # noqa: F401  (registers everything)
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mtpd.distill import FeatureDistiller, build_detector, pyramid_channels
from mtpd.plan.detectors import load_config
from mtpd.statistics import median_interval
from torch.profiler import ProfilerActivity, profile

PAIRS = {
    'retinanet': ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
                  'mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py'),
    'mask_rcnn': ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
                  'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py')}
OPTIONS = {'bf16': dict(precision='bf16'), 'fp16': dict(precision='fp16'),
           'channels_last': dict(channels_last=True),
           'compile': dict(compile=True)}


def main() -> None:
    args = arguments()
    DefaultScope.get_instance('benchmark', scope_name='mmdet')
    torch.manual_seed(args.seed)
    models = [without_init(load_config(name).model)
              for name in PAIRS[args.pair]]
    data = demo_mm_inputs(
        args.batch, [(3, *args.size)] * args.batch, num_classes=80,
        num_items=[8] * args.batch, with_mask=args.pair == 'mask_rcnn')
    print('; '.join([
        torch.cuda.get_device_name() if args.device == 'cuda' else
        f'{platform.machine()}, {torch.get_num_threads()} threads',
        f'torch {torch.__version__}, mmdet {mmdet.__version__}',
        f'seed {args.seed}', f'{args.pair}, {args.batch} x {args.size[0]}x'
        f'{args.size[1]}' + (', amp' if args.amp else '')]))

    with tempfile.TemporaryDirectory() as folder:
        files = []
        for part, model in zip(('student', 'teacher'), models):
            detector = build_detector(model)
            files.append(f'{folder}/{part}.pth')
            torch.save(detector.state_dict(), files[-1])

        def distiller(weight: float = 1., **fast) -> FeatureDistiller:
            return MODELS.build(dict(
                type='FeatureDistiller', student=models[0],
                student_checkpoint=files[0], teachers=[dict(
                    name='teacher', model=models[1], checkpoint=files[1])],
                distill=dict(type='FeatureL2Loss', loss_weight=weight),
                adapter=args.adapter, init_adapters='random',
                fast_teacher=fast)).to(args.device).train()

        ours = distiller()
        distil = step_of(ours, data, args)
        plain = step_of(distiller(0.), data, args)
        floor = floor_of(distiller(), data, args)
        compare('distiller / floor', distil, floor, args)
        compare('floor / student alone', floor, plain, args)
        if args.unlabelled:
            more = {**data, 'unlabelled': demo_mm_inputs(
                args.unlabelled, [(3, *args.size)] * args.unlabelled,
                num_classes=80)}
            both = step_of(distiller(), more, args)
            compare('unlabelled: distiller / floor', both,
                    floor_of(distiller(), more, args), args)
            compare('unlabelled / without', both, distil, args)
        for name in args.options:
            fast = step_of(distiller(**OPTIONS[name]), data, args)
            compare(f'{name} / distiller', fast, distil, args)
            del fast
        memory(plain, distil, ours, args.device)


def without_init(model: ConfigDict) -> ConfigDict:
    """Random weights: what a step costs does not depend on them."""
    model.backbone.init_cfg = None
    return model


def step_of(model: FeatureDistiller, data: dict,
            args: argparse.Namespace) -> Callable[[], None]:
    """One whole training step, as mmengine's loop calls it."""
    wrapper = build_optim_wrapper(model, optimizer(args))
    return lambda: model.train_step(copy.deepcopy(data), wrapper)


def floor_of(model: FeatureDistiller, data: dict,
             args: argparse.Namespace) -> Callable[[], None]:
    """The same work without any of the distiller's own; the teacher passes
    images without labels, if the data has some, with the others."""
    student, branch = model.student, model.guidances[0]
    teacher = branch.teacher.detector.to(args.device)
    convs = {s: branch.adapter.levels[str(s)].project
             for s in branch.adapter.strides}
    student_strides = tuple(pyramid_channels(student))
    teacher_strides = tuple(branch.teacher.channels)
    normalise = model.data_preprocessor.teachers[0].to(args.device)
    wrapper = build_optim_wrapper(model, optimizer(args))

    def step() -> None:
        batch = copy.deepcopy(data)
        with wrapper.optim_context(model):
            inputs = student.data_preprocessor(batch, True)
            more = batch.get('unlabelled', {}).get('inputs', [])
            images = normalise({'inputs': [*batch['inputs'], *more],
                                'data_samples': None})['inputs']
            maps = student.extract_feat(inputs['inputs'])
            student.extract_feat = lambda _: maps  # loss() runs it only once
            losses = student.loss(inputs['inputs'], inputs['data_samples'])
            del student.extract_feat
            if more:
                others = student.extract_feat(student.data_preprocessor(
                    {'inputs': more}, True)['inputs'])
                maps = map(torch.cat, zip(maps, others))
            with torch.no_grad():
                targets = dict(zip(teacher_strides,
                                   teacher.extract_feat(images)))
            sources = dict(zip(student_strides, maps))
            total, _ = model.parse_losses(losses)
            with torch.autocast(args.device, enabled=False):
                for stride, conv in convs.items():
                    total = total + F.mse_loss(
                        conv(sources[stride].float()),
                        targets[stride].float()) / len(convs)
        wrapper.update_params(total)

    return step


def optimizer(args: argparse.Namespace) -> dict:
    kind = dict(type='AmpOptimWrapper', dtype='bfloat16') if args.amp \
        else dict(type='OptimWrapper')
    return dict(optimizer=dict(type='SGD', lr=1e-6), **kind)


def compare(title: str, one: Callable[[], None], other: Callable[[], None],
            args: argparse.Namespace) -> None:
    """Median ratio of times measured in turn, and its 95% interval."""
    for _ in range(args.warm_up):
        one()
        other()
    ratios, seconds = [], []
    for turn in range(args.turns):
        # The first one alternates, so heat and caches favour neither.
        order = (one, other) if turn % 2 else (other, one)
        times = {step: seconds_of(step, args.device) for step in order}
        ratios.append(times[one] / times[other])
        seconds.append(times[other])
    low, high = median_interval(ratios)
    print(f'{title}: {statistics.median(ratios):.3f} '
          f'[{low:.3f}, {high:.3f}] over {args.turns} pairs; the latter '
          f'{statistics.median(seconds):.3f} s', flush=True)


def seconds_of(step: Callable[[], None], device: str) -> float:
    if device == 'cuda':
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def memory(plain: Callable[[], None], distil: Callable[[], None],
           ours: FeatureDistiller, device: str) -> None:
    """Peak of a step with and without a teacher, beside its weights."""
    teacher = ours.guidances[0].teacher.detector
    weights = sum(t.numel() * t.element_size()
                  for t in teacher.state_dict().values())
    alone, both = (peak(step, device) for step in (plain, distil))
    print(f'peak of a step beyond what it starts with: student alone '
          f'{alone / 2 ** 20:.0f} MiB, with a teacher {both / 2 ** 20:.0f} '
          f'MiB; its weights, which stay in memory all the time, '
          f'{weights / 2 ** 20:.0f} MiB')


def peak(step: Callable[[], None], device: str) -> int:
    """Bytes allocated at the worst moment of a step, beyond its start."""
    if device == 'cuda':
        start = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - start
    with profile(activities=[ProfilerActivity.CPU],
                 profile_memory=True) as record:
        step()
    level = worst = 0
    events = [e for e in record.profiler.kineto_results.events()
              if e.name() == '[memory]']
    for event in sorted(events, key=lambda e: e.start_ns()):
        level += event.nbytes()
        worst = max(worst, level)
    return worst


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pair', choices=PAIRS, default='retinanet')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--size', type=int, nargs=2, default=[256, 256])
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--turns', type=int, default=15)
    parser.add_argument('--warm-up', type=int, default=2)
    parser.add_argument('--adapter', choices=['auto', 'conv'], default='auto')
    parser.add_argument('--amp', action='store_true')
    parser.add_argument('--unlabelled', type=int, default=0)
    parser.add_argument('--options', nargs='*', choices=OPTIONS, default=[])
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


if __name__ == '__main__':
    main()
