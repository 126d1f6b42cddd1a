"""Kill a progression at random moments: does it end as if undisturbed?

    python benchmarks/kill.py --kills 20 --workers 2

Three small stages (random teachers, drawn images) with augmentation, masks
of MGD, momentum, averaged weights, a checkpoint every 3 iterations, a
validation every epoch of 12 and the best weights handed on. The command runs
once in peace. Then, for each of the seeded moments, in a folder of its own, it
is killed (kill -9; --signal TERM asks it to stop) and run again with --resume;
every stage's student has to be equal bit for bit. With --processes 2 by
torchrun, of whose processes one is killed.

Ends with exit code 1 if a weight differs. Writes kill.json and one work folder
for every kind of moment to --out.
"""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mtpd  # noqa: F401
from mtpd.data.drawn_shapes import draw_shapes
from mtpd.distill.detector import build_detector
from mtpd.plan.detectors import load_config
from mtpd.provenance import command, versions
from mtpd.randomness import isolate_rng
from mtpd.show.tables import text_table
from mtpd.stage.preemption import EXIT_CODE

TEACHERS = ('resnext', 'swin', 'two_stage')
REPOSITORY = Path(__file__).resolve().parent.parent


def main() -> None:
    made = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument('--kills', type=int, default=20)
    made.add_argument('--seed', type=int, default=0)
    made.add_argument('--workers', type=int, default=0)
    made.add_argument('--processes', type=int, default=1)
    made.add_argument('--signal', choices=['KILL', 'TERM'], default='KILL')
    made.add_argument('--out', type=Path, default=Path('work_dirs/kill'))
    args = made.parse_args()
    if args.out.exists():
        sys.exit(f'{args.out} is there already. Name another --out, or remove '
                 'it.')
    DefaultScope.get_instance('kill', scope_name='mmdet')
    config = prepare(args.out, args.workers)
    start = [sys.executable, *(
        [] if args.processes == 1 else
        ['-m', 'torch.distributed.run', '--standalone',
         f'--nproc_per_node={args.processes}']),
        'tools/train.py', str(config), '--resume', '--no-probe', '--launcher',
        'none' if args.processes == 1 else 'pytorch']
    peace = args.out / 'undisturbed'
    began, process = started(start, peace)
    finished(process, peace)
    seconds = time.monotonic() - began
    expected = students(peace)
    print(f'Undisturbed: {seconds:.1f} s from its first file to its end')

    draw = random.Random(args.seed)
    rows = []
    for number in range(args.kills):
        moment = draw.uniform(0, seconds)
        folder = args.out / f'kill_{number}'
        began, process = started(start, folder)
        time.sleep(max(0, began + moment - time.monotonic()))
        hit = victim(process, args.processes, draw)
        over = process.poll() is not None
        if not over:
            os.kill(hit, getattr(signal, f'SIG{args.signal}'))
        code = process.wait()
        where = 'over already' if over else phase(folder)
        checkpoint = newest(folder)
        _, process = started(start, folder)
        finished(process, folder)
        found = students(folder)
        wrong = [f'{stage}: {key}' for stage in expected
                 for key in expected[stage] if not torch.equal(
                     expected[stage][key], found[stage][key])]
        rows.append(dict(moment=round(moment, 2), where=where,
                         checkpoint=checkpoint, exit_code=code,
                         different_tensors=len(wrong)))
        print(f'{number}: {rows[-1]}', flush=True)
        if not wrong:
            shutil.rmtree(folder)
    counts = Counter(row['where'] for row in rows)
    equal = Counter(row['where'] for row in rows
                    if not row['different_tensors'])
    print(text_table(
        f'{args.signal} at {args.kills} moments, seed {args.seed}, '
        f'{args.workers} workers, {args.processes} processes',
        ['while', 'killed', 'ended bit-equal'],
        [[where, n, equal[where]] for where, n in counts.most_common()]
        + [['in all', len(rows), sum(equal.values())]]))
    (args.out / 'kill.json').write_text(json.dumps(dict(
        command=command(), versions=versions(), seed=args.seed,
        undisturbed_seconds=seconds, kills=rows), indent=1))
    codes = {row['exit_code'] for row in rows
             if row['where'] != 'over already'}
    if args.signal == 'TERM' and args.processes == 1 and codes != {EXIT_CODE}:
        sys.exit(f'Exit codes {codes}; {EXIT_CODE} was expected.')
    if any(row['different_tensors'] for row in rows):
        sys.exit('Not equal.')


def prepare(out: Path, workers: int) -> Path:
    """Images, random detectors and the config, in ``out``."""
    data = out / 'data'
    draw_shapes(data, train=48, val=12, size=(128, 112), seed=0)
    names = ('student', *TEACHERS)
    for seed, name in enumerate(names):
        with isolate_rng(seed):
            detector = build_detector(
                load_config(f'configs/demo/{name}.py').model)
            detector.init_weights()
        torch.save(dict(state_dict=detector.state_dict()),
                   out / f'{name}.pth')
    cfg = load_config('configs/demo/student.py')
    cfg.custom_imports = dict(imports=['mtpd'])
    for part in ('train', 'val'):
        cfg[f'{part}_dataloader'].dataset.data_root = str(data) + '/'
    cfg.val_evaluator.ann_file = str(data / 'annotations/instances_val.json')
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        cfg.pop(key, None)
    cfg.train_dataloader.update(batch_size=4, num_workers=workers,
                                persistent_workers=workers > 0)
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2,
                         val_interval=1)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=.1, by_epoch=False, begin=0,
             end=10), dict(type='MultiStepLR', milestones=[1], gamma=.1)]
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    cfg.custom_hooks = [dict(type='EMAHook', momentum=.1)]
    cfg.randomness = dict(seed=0, deterministic=True)
    cfg.mtpd = dict(
        student=dict(checkpoint=str(out / 'student.pth')),
        teachers={name: dict(config=f'configs/demo/{name}.py',
                             checkpoint=str(out / f'{name}.pth'), ap=1.)
                  for name in TEACHERS},
        order=list(TEACHERS), handover='best', checkpoint_every=3,
        distill=dict(type='WeightedSum', losses=[
            dict(type='FeatureL2Loss', normalise=True, loss_weight=.3),
            dict(type='MGDLoss')]))
    path = out / 'config.py'
    Config(cfg._cfg_dict).dump(str(path))
    return path


def started(start: list[str], folder: Path
            ) -> tuple[float, subprocess.Popen]:
    """The command and when it had written its first file, or ended."""
    folder.mkdir(exist_ok=True)
    with open(folder / 'said.txt', 'a') as said:
        process = subprocess.Popen(
            [*start, '--work-dir', str(folder / 'work')], stdout=said,
            stderr=said, cwd=REPOSITORY, env={
                **os.environ, 'PYTHONPATH': str(REPOSITORY),
                'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', '1')})
    before = record(folder)
    while record(folder) == before and process.poll() is None:
        time.sleep(.005)
    return time.monotonic(), process


def record(folder: Path) -> int:
    path = folder / 'work' / 'progression.json'
    return path.stat().st_mtime_ns if path.exists() else 0


def finished(process: subprocess.Popen, folder: Path) -> None:
    if process.wait():
        sys.exit(f'It failed:\n{(folder / "said.txt").read_text()[-3000:]}')


def victim(process: subprocess.Popen, processes: int,
           draw: random.Random) -> int:
    """The process itself, or one of those that torchrun has started."""
    if processes == 1:
        return process.pid
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
    return int(draw.choice(children.read_text().split()))


def phase(folder: Path) -> str:
    """What it was doing, by the files and the last line that it logged."""
    work = folder / 'work'
    if list(work.rglob('*.partial')):
        return 'writing a file'
    lines = [line for line in (folder / 'said.txt').read_text().splitlines()
             if 'INFO' in line and 'SIGTERM' not in line]
    last = lines[-1] if lines else ''
    if 'Saving' in last or 'is saved' in last:
        return 'saving, or in the step after it'
    if 'Epoch(val)' in last and 'mAP' not in last:
        return 'validating'
    if 'Epoch(train)' in last or 'Epoch(val)' in last:
        return 'training, or about to save'
    return 'starting or ending a stage'


def newest(folder: Path) -> str | None:
    found = sorted((folder / 'work').rglob('epoch_*.pth'),
                   key=lambda path: path.stat().st_mtime_ns)
    return str(found[-1].relative_to(folder / 'work')) if found else None


def students(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {str(path.parent.relative_to(folder)): torch.load(path)[
        'state_dict'] for path in folder.rglob('student.pth')}


if __name__ == '__main__':
    main()
