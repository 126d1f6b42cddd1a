"""The metrics of a stage's validations, on disk as soon as they exist."""
import json
import os
from typing import Mapping

from mmdet.registry import HOOKS
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mtpd.compat.atomic_files import atomic_write
from mtpd.plan.errors import PlanError
from mtpd.plan.work_dir import StageDir
from mtpd.processes import on_main


def read_validations(folder: str) -> dict[int, dict[str, float]]:
    """Iterations -> metrics in the evaluator's own units, in the order in
    which they were measured.

    Args:
        folder: The stage's.

    Raises:
        PlanError: The file is damaged.
    """
    path = StageDir(folder).validations
    if not os.path.isfile(path):
        return {}
    try:
        with open(path) as file:
            return {int(iteration): {key: float(value)
                                     for key, value in metrics.items()}
                    for iteration, metrics in json.load(file).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise PlanError([
            f'{path} is damaged ({error}). Remove it: the APs of this '
            "stage's epochs are then missing, and nothing else."]) from error


def known_ap(ap: float | None) -> float | None:
    """An AP as it was recorded; None where it could not be measured, which
    earlier versions wrote as -100."""
    return None if ap is None or ap < 0 else ap


def is_validated(folder: str, iteration: int) -> bool:
    """Whether the weights after an iteration were validated; the same answer
    in all processes.

    Args:
        folder: The stage's.
        iteration: Number of iterations done.
    """
    return on_main(lambda: iteration in read_validations(folder))


@HOOKS.register_module()
class RecordValidationsHook(Hook):
    """Writes each validation's metrics to ``validations.json``.

    A resumed run does not repeat a validation that is recorded. All processes
    validate with the buffers of the first (the running statistics of batch
    norms), which are those that are saved and handed on; mmengine lets each
    process validate its share of the images with its own.
    """

    priority = 'LOWEST'  # after EMAHook's swap, and after CheckpointHook

    def before_val_epoch(self, runner: Runner) -> None:
        for buffer in runner.model.buffers():
            broadcast(buffer)

    def after_val_epoch(self, runner: Runner,
                        metrics: Mapping[str, float] | None = None) -> None:
        if not is_main_process():
            return
        recorded = read_validations(runner.work_dir)
        recorded.pop(runner.iter, None)
        recorded[runner.iter] = {key: float(value)
                                 for key, value in (metrics or {}).items()}
        atomic_write(StageDir(runner.work_dir).validations,
                     json.dumps(recorded, indent=1).encode())
