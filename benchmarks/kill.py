"""Kill a progression at random moments: does it end as if undisturbed?

    python benchmarks/kill.py --kills 20 --workers 2

Three small stages (random teachers, drawn images) with augmentation, MGD's
masks, momentum, averaged weights, a checkpoint every 3 iterations, a
validation after every epoch of 12, and the best weights handed over. The
command first runs undisturbed. Then, for each of the seeded moments and in a
folder of its own, it is killed (kill -9; --signal TERM asks it to stop) and
resumed with --resume; every stage's student has to be equal bit for bit. With
--processes 2 it runs under torchrun, and one of the two processes is killed.

Exits with code 1 if a weight differs. Writes kill.json and one work folder for
every kind of moment to --out.
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
from typing import Any

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
TRAIN = 'tools/train.py'
LOG = 'log.txt'
OVER = 'over already'

Students = dict[str, dict[str, torch.Tensor]]
"""Folder of a stage -> the weights of its student."""


def main() -> None:
    args = read_arguments()
    DefaultScope.get_instance('kill', scope_name='mmdet')
    config = prepare(args.out, args.workers, with_mgd=args.before is None)
    command_line = train_command(config, args.processes)
    undisturbed = args.out / 'undisturbed'
    began, process = start(command_line, undisturbed,
                           source_of(args.out, args.before))
    check_success(process, undisturbed)
    seconds = time.monotonic() - began
    expected = students(undisturbed)
    print(f'Undisturbed: {seconds:.1f} s from its first file to its end')

    draw = random.Random(args.seed)
    rows = []
    for number in range(args.kills):
        folder = args.out / f'kill_{number}'
        row = kill_once(command_line, folder, args, draw, seconds)
        row['different_tensors'] = differences(expected, students(folder))
        rows.append(row)
        print(f'{number}: {row}', flush=True)
        if not row['different_tensors']:
            shutil.rmtree(folder)
    print(table(rows, args))
    (args.out / 'kill.json').write_text(json.dumps(dict(
        command=command(), versions=versions(), seed=args.seed,
        undisturbed_seconds=seconds, kills=rows), indent=1))
    codes = {row['exit_code'] for row in rows if row['where'] != OVER}
    if args.signal == 'TERM' and args.processes == 1 and codes != {EXIT_CODE}:
        sys.exit(f'Exit codes {codes}; {EXIT_CODE} was expected.')
    if any(row['different_tensors'] for row in rows):
        sys.exit('Not equal.')


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, default=0)
    parser.add_argument('--processes', type=int, default=1)
    parser.add_argument('--signal', choices=['KILL', 'TERM'], default='KILL')
    parser.add_argument('--before', metavar='COMMIT', help='start each run '
                        'with the version of this commit, and resume it with '
                        'the present one; without MGD, whose generators start '
                        'differently from version to version')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/kill'))
    args = parser.parse_args()
    if args.out.exists():
        sys.exit(f'{args.out} exists. Name another --out, or remove it.')
    return args


def source_of(out: Path, commit: str | None) -> Path:
    """The source of a commit, checked out in ``out``; None for this one."""
    if commit is None:
        return REPOSITORY
    source = (out / 'before').resolve()
    if not source.exists():
        subprocess.run(['git', 'clone', '--quiet', str(REPOSITORY),
                        str(source)], check=True)
        subprocess.run(['git', '-C', str(source), 'checkout', '--quiet',
                        commit], check=True)
    return source


def train_command(config: Path, processes: int) -> list[str]:
    """tools/train.py, under torchrun for several processes."""
    launcher = ['-m', 'torch.distributed.run', '--standalone',
                f'--nproc_per_node={processes}'] if processes > 1 else []
    return [sys.executable, *launcher, TRAIN, str(config),
            '--resume', '--no-probe', '--launcher',
            'pytorch' if processes > 1 else 'none']


def kill_once(command_line: list[str], folder: Path,
              args: argparse.Namespace, draw: random.Random,
              seconds: float) -> dict[str, Any]:
    """Run, kill at a random moment, and resume to the end.

    Args:
        command_line: Of the progression.
        folder: For this run.
        args: Of this program.
        draw: Source of random numbers.
        seconds: How long the undisturbed run took.

    Returns:
        The moment in seconds, what the process was doing, its newest
        checkpoint and its exit code.
    """
    moment = draw.uniform(0, seconds)
    began, process = start(command_line, folder,
                           source_of(args.out, args.before))
    time.sleep(max(0, began + moment - time.monotonic()))
    pid = victim(process, args.processes, draw)
    over = process.poll() is not None
    if not over:
        os.kill(pid, getattr(signal, f'SIG{args.signal}'))
    code = process.wait()
    row = dict(moment=round(moment, 2), where=OVER if over else phase(folder),
               checkpoint=newest_checkpoint(folder), exit_code=code)
    _, process = start(command_line, folder)
    check_success(process, folder)
    return row


def differences(expected: Students, actual: Students) -> int:
    """How many tensors differ."""
    return sum(not torch.equal(tensor, actual[stage][key])
               for stage, tensors in expected.items()
               for key, tensor in tensors.items())


def table(rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """Kills by what they interrupted."""
    counts = Counter(row['where'] for row in rows)
    equal = Counter(row['where'] for row in rows
                    if not row['different_tensors'])
    return text_table(
        f'{args.signal} at {args.kills} moments, seed {args.seed}, '
        f'{args.workers} workers, {args.processes} processes',
        ['while', 'killed', 'ended bit-equal'],
        [[where, count, equal[where]]
         for where, count in counts.most_common()]
        + [['in all', len(rows), sum(equal.values())]])


def prepare(out: Path, workers: int, with_mgd: bool) -> Path:
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
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=3,
                                        by_epoch=False)
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    cfg.custom_hooks = [dict(type='EMAHook', momentum=.1)]
    cfg.randomness = dict(seed=0, deterministic=True)
    cfg.mtpd = dict(
        student=dict(checkpoint=str(out / 'student.pth')),
        teachers={name: dict(config=f'configs/demo/{name}.py',
                             checkpoint=str(out / f'{name}.pth'), ap=1.)
                  for name in TEACHERS},
        order=list(TEACHERS), handover='best',
        distill=dict(type='WeightedSum', losses=[
            dict(type='FeatureL2Loss', normalise=True, loss_weight=.3),
            *([dict(type='MGDLoss')] if with_mgd else [])]))
    path = out / 'config.py'
    Config(cfg._cfg_dict).dump(str(path))
    return path


def start(command_line: list[str], folder: Path, source: Path = REPOSITORY
          ) -> tuple[float, subprocess.Popen]:
    """Start the command of the version in ``source``; returns the time
    (:func:`time.monotonic`) of its first file, or of its end, and the
    process."""
    folder.mkdir(exist_ok=True)
    environment = {
        **os.environ, 'PYTHONPATH': str(source),
        'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', '1')}
    words = [str(source / word) if word == TRAIN else word
             for word in command_line]
    with open(folder / LOG, 'a') as log:
        process = subprocess.Popen(
            [*words, '--work-dir', str(folder / 'work')], stdout=log,
            stderr=log, cwd=REPOSITORY, env=environment)
    before = record_time(folder)
    while record_time(folder) == before and process.poll() is None:
        time.sleep(.005)
    return time.monotonic(), process


def record_time(folder: Path) -> int:
    """When the progression's record was written, in ns; 0 without one."""
    path = folder / 'work' / 'progression.json'
    return path.stat().st_mtime_ns if path.exists() else 0


def check_success(process: subprocess.Popen, folder: Path) -> None:
    """Wait for the end; leave this program if the process failed."""
    if process.wait():
        sys.exit(f'It failed:\n{(folder / LOG).read_text()[-3000:]}')


def victim(process: subprocess.Popen, processes: int,
           draw: random.Random) -> int:
    """The id of the process, or of one that torchrun has started."""
    if processes == 1:
        return process.pid
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
    return int(draw.choice(children.read_text().split()))


def phase(folder: Path) -> str:
    """What the process was doing, by its files and its last log line."""
    work = folder / 'work'
    if list(work.rglob('*.partial')):
        return 'writing a file'
    lines = [line for line in (folder / LOG).read_text().splitlines()
             if 'INFO' in line and 'SIGTERM' not in line]
    last = lines[-1] if lines else ''
    if 'Saving' in last or 'is saved' in last:
        return 'saving, or in the step after it'
    if 'Epoch(val)' in last and 'mAP' not in last:
        return 'validating'
    if 'Epoch(train)' in last or 'Epoch(val)' in last:
        return 'training, or about to save'
    return 'starting or ending a stage'


def newest_checkpoint(folder: Path) -> str | None:
    """Its path in the work folder; None without one."""
    paths = sorted((folder / 'work').rglob('epoch_*.pth'),
                   key=lambda path: path.stat().st_mtime_ns)
    return str(paths[-1].relative_to(folder / 'work')) if paths else None


def students(folder: Path) -> Students:
    """All exported students of a run."""
    return {str(path.parent.relative_to(folder)):
            torch.load(path)['state_dict']
            for path in folder.rglob('student.pth')}


if __name__ == '__main__':
    main()
