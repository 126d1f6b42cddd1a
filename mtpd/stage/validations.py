"""What a stage's validations said, on disk as soon as they have."""
import json
import os
from typing import Mapping

from mmdet.registry import HOOKS
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mtpd.compat.atomic_files import atomic_write
from mtpd.processes import on_main


def read_validations(folder: str) -> dict[int, dict[str, float]]:
    """Iterations done -> metrics in the evaluator's own units, in the order
    in which they were measured."""
    path = os.path.join(folder, 'validations.json')
    if not os.path.isfile(path):
        return {}
    with open(path) as file:
        return {int(done): metrics
                for done, metrics in json.load(file).items()}


def is_validated(folder: str, iteration: int) -> bool:
    """Whether the weights after so many iterations were validated; in all
    processes the same."""
    return on_main(lambda: iteration in read_validations(folder))


@HOOKS.register_module()
class RecordValidationsHook(Hook):
    """Writes each validation's metrics to ``validations.json``.

    What is there is over with: a resumed run does not repeat it. All processes
    validate with the buffers of the first (the running statistics of batch
    norms), which are those that are saved and handed on; mmengine lets each
    validate its share of the images with its own.
    """

    priority = 'LOWEST'  # after EMAHook's swap, and after CheckpointHook

    def before_val_epoch(self, runner: Runner) -> None:
        for buffer in runner.model.buffers():
            broadcast(buffer)

    def after_val_epoch(self, runner: Runner,
                        metrics: Mapping[str, float] | None = None) -> None:
        if not is_main_process():
            return
        known = read_validations(runner.work_dir)
        known.pop(runner.iter, None)
        known[runner.iter] = {key: float(value)
                              for key, value in (metrics or {}).items()}
        atomic_write(os.path.join(runner.work_dir, 'validations.json'),
                     json.dumps(known, indent=1).encode())
