"""How adapters start, over the first epochs: zero, random, identity, fitted.

    python benchmarks/adapter_starts.py configs/bccd/progression.py \
        --teacher two_stage

Needs the trained pool (`make bccd`, or tools/train.py for each). Each start
trains one stage of a few epochs from the same student with the same seed, a
convolution at every level, validated after each epoch; the table has the box
AP, and the distillation loss and its ratio to the detection loss at the first
iteration, averaged over the first ten, and at the end. Written to
WORK_DIR/adapter_starts.json as it goes; another run repeats no finished
stage.
"""
import copy
import json
import statistics
from pathlib import Path

import torch
from mmengine.config import Config

from mtpd.command_line import parser, plain_errors, read_config
from mtpd.progression import make_plan, run_progression
from mtpd.show.tables import text_table

STARTS = ('zero', 'random', 'identity', 'fitted')


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument('--teacher', required=True)
    flags.add_argument('--epochs', type=int, default=3)
    flags.add_argument('--seeds', type=int, nargs='+', default=[0])
    args = flags.parse_args()
    with plain_errors():
        cfg = read_config(args)
        out = Path(cfg.work_dir) / 'adapter_starts.json'
        results = json.loads(out.read_text()) if out.exists() else []
        for seed in args.seeds:
            for start in STARTS:
                stage = dict(teacher=args.teacher, epochs=args.epochs,
                             seed=seed, start=start)
                if not any(stage.items() <= r.items() for r in results):
                    results.append({**stage, **train_stage(cfg, **stage)})
                    out.write_text(json.dumps(results, indent=1))
    rows = [r for r in results if r['teacher'] == args.teacher
            and r['epochs'] == args.epochs]
    print(f'torch {torch.__version__}, student '
          f'{make_plan(cfg).student.hash()}')
    print(text_table(
        f'Taught by {args.teacher}: box AP after each epoch',
        ['start, seed', 'AP', 'loss: first', 'first ten', 'end', 'ratio: '
         'first', 'first ten', 'end'],
        [[f'{r["start"]}, {r["seed"]}',
          ' '.join(f'{ap:.1f}' for ap in r['ap']),
          *(f'{r[k][w]:.3g}' for k in ('loss', 'ratio')
            for w in ('first', 'first_ten', 'end'))] for r in rows]))


def train_stage(cfg: Config, teacher: str, epochs: int, seed: int,
                start: str) -> dict:
    """Train one stage and read its log."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = str(Path(cfg.work_dir) / 'adapter_starts' /
                       f'{teacher}_{epochs}_{seed}_{start}')
    cfg.mtpd.update(order=[teacher], adapter='conv', init_adapters=start)
    cfg.train_cfg.update(max_epochs=epochs, val_interval=1)
    cfg.param_scheduler = [s for s in cfg.param_scheduler
                           if not s.get('by_epoch', True)]  # the warm-up
    cfg.default_hooks.logger.interval = 1
    cfg.log_processor = dict(type='LogProcessor', window_size=1)
    cfg.randomness = dict(seed=seed)
    run_progression(cfg, resume=True, with_probe=False)
    log, = Path(cfg.work_dir).glob('stage1_*/*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [line for line in lines if 'lr' in line]
    series = {'loss': [sum(v for k, v in s.items() if 'loss_distill' in k)
                       for s in steps],
              'ratio': [s['distill_ratio'] for s in steps]}
    return {'ap': [100 * line['coco/bbox_mAP'] for line in lines
                   if 'coco/bbox_mAP' in line],
            **{k: dict(first=v[0], first_ten=statistics.mean(v[:10]),
                       end=statistics.mean(v[-10:]))
               for k, v in series.items()}}


if __name__ == '__main__':
    main()
