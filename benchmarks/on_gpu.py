"""All measurements that need a GPU, in under ten minutes.

    python benchmarks/on_gpu.py --out gpu/

Needs no data: detectors have random weights and images are drawn. Each command
has a limit of its own, after which it is ended and the next begins. What it
printed is in --out, and summary.json says what was done, how long it took and
on which GPU; run again, it starts with what is not done. --list prints the
commands.
"""
import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[1]
FULL = '--device cuda --size 800 1344 --batch 8'
DEMO = 'configs/demo/few_labels'


class Command(NamedTuple):
    """A command of this repository.

    Attributes:
        name: Of its files.
        words: What to type after python.
        limit: Seconds after which it is ended.
    """
    name: str
    words: str
    limit: int


COMMANDS = (
    Command('step', f'benchmarks/training_step.py {FULL} --turns 9 --options '
            'bf16 channels_last', 90),
    # Few turns: each step also copies the masks of eight images.
    Command('step_amp', f'benchmarks/training_step.py {FULL} --turns 6 '
            '--pair mask_rcnn --amp', 90),
    Command('step_unlabelled', f'benchmarks/training_step.py {FULL} --turns 6 '
            '--unlabelled 8', 70),
    Command('costs', 'benchmarks/adaptation_cost.py --only pass memory '
            '--device cuda --images 20 --teachers 2 --out {out}/costs.json',
            60),
    Command('operators', 'benchmarks/operators.py', 30),
    Command('fgd', 'benchmarks/fgd_masks.py', 30),
    Command('tests', '-m pytest tests/gpu -m gpu -q', 60),
    Command('draw', f'tools/draw_shapes.py {DEMO}/student.py', 45),
    Command('demo', f'tools/from_scratch.py {DEMO}/progression.py', 110))
"""In the order in which they are run."""


def main() -> None:
    flags = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument('--out', type=Path, default=Path('gpu'))
    flags.add_argument('--list', action='store_true')
    args = flags.parse_args()
    if args.list:
        for command in COMMANDS:
            print(f'{command.limit:4} s  python {command.words}')
        return
    if not torch.cuda.is_available():
        sys.exit('PyTorch finds no GPU here. --list prints the commands.')
    run(COMMANDS, args.out, torch.cuda.get_device_name())


def run(commands: tuple[Command, ...], out: Path, device: str) -> None:
    """Run what is not done yet.

    Args:
        commands: What to run.
        out: Folder of the results.
        device: The GPU's name.
    """
    out.mkdir(parents=True, exist_ok=True)
    summary = out / 'summary.json'
    results = json.loads(summary.read_text()) if summary.is_file() else {}
    environment = {**os.environ, 'MTPD_TEST_GPU': '1', 'PYTHONPATH': str(ROOT)}
    for command in commands:
        if results.get(command.name, {}).get('exit_code') == 0:
            continue
        words = command.words.format(out=out.resolve())
        began = time.monotonic()
        with open(out / f'{command.name}.txt', 'w') as file:
            process = subprocess.Popen(
                [sys.executable, '-u', *shlex.split(words)], cwd=ROOT,
                env=environment, stdout=file, stderr=subprocess.STDOUT,
                start_new_session=True)
            try:
                code: int | None = process.wait(command.limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:  # with all processes that it has started
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        seconds = round(time.monotonic() - began, 1)
        results[command.name] = dict(
            command=f'python {words}', exit_code=code, seconds=seconds,
            device=device, torch=torch.__version__)
        summary.write_text(json.dumps(results, indent=1))
        state = f'not done in {command.limit} s' if code is None \
            else 'done' if code == 0 else f'failed with exit code {code}'
        print(f'{command.name}: {state}, {seconds} s', flush=True)


if __name__ == '__main__':
    main()
