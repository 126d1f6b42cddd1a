"""Automatic weights that are found within their stage."""
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mtpd.processes import unwrapped

from .fade import FadeDistillHook


@HOOKS.register_module()
class CalibrationHook(Hook):
    """Shortens the search for automatic weights in short stages.

    While a weight is looked for, nothing is distilled. In a stage of fewer
    iterations than that takes, or one that fades before, nothing would be
    distilled at all. The length follows from the stage's length, so a resumed
    run has the same.
    """

    def before_train(self, runner: Runner) -> None:
        per_epoch = len(runner.train_dataloader)
        available = min([runner.max_iters, *(
            hook.iterations(per_epoch) for hook in runner.hooks
            if isinstance(hook, FadeDistillHook))])
        for branch in unwrapped(runner.model).guidances:
            wanted = branch.auto.iterations
            branch.auto.fit_into(available)
            if branch.auto.iterations < wanted:
                print_log(
                    f'{branch.name}: this stage distils for {available} '
                    'iterations, so the automatic weight is found in '
                    f'{branch.auto.iterations} and not in {wanted}'
                    + ' and nothing is distilled' * (
                        branch.auto.iterations >= available) + '.',
                    logger='current')
