"""What test_processes.py runs in each of two processes: the train tool, with
somebody who writes down what happens.

    python -m torch.distributed.run ... two_processes.py OUT STOP [train's own]

In step 3 of all, in the second process, the teacher's map is not a number. In
step STOP of all the second process alone gets a SIGTERM. Neither happens where
STOP is below 0.
"""
import copy
import os
import runpy
import signal
import sys

import torch
from mmengine.optim import OptimWrapper

from mtpd.distill.distiller import FeatureDistiller
from mtpd.distill.frozen import FrozenDetector

OUT, STOP = sys.argv[1], int(sys.argv[2])
sys.argv[:3] = ['tools/train.py']
RANK = int(os.environ['RANK'])
steps: list[dict] = []
opened: set[str] = set()

loss, forward = FeatureDistiller.loss, FrozenDetector.__call__
step = OptimWrapper.step


def noted_loss(self, inputs, samples, teacher_inputs, unlabelled=None):
    if len(steps) + 1 == STOP and RANK == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    before = {k: v.clone() for k, v in self.state_dict().items()}
    parts = {k: v.clone() for k, v in
             self.training_parts().state_dict().items()}
    batch = copy.deepcopy((inputs, samples, teacher_inputs, unlabelled))
    losses = loss(self, inputs, samples, teacher_inputs, unlabelled)
    steps.append(dict(
        teacher=self.guidances[0].name, student=before, parts=parts,
        batch=batch, losses={k: torch.as_tensor(sum(v) if isinstance(
            v, list) else v).detach() for k, v in losses.items()},
        model=self))
    return losses


def noted_forward(self, *args):
    maps = forward(self, *args)
    if len(steps) + 1 == 3 and RANK == 1 and STOP >= 0:
        maps[8][0, 0, 0, 0] = torch.nan
    return maps


def noted_step(self, **kwargs):
    model = steps[-1].pop('model')
    steps[-1]['gradients'] = {name: p.grad.clone() for name, p in
                              model.named_parameters() if p.grad is not None}
    step(self, **kwargs)
    steps[-1]['after'] = {k: v.clone() for k, v in model.state_dict().items()}


def note(event, args):
    if event == 'open' and isinstance(args[0], str) and (
            set('wax+') & set(args[1] or '') or (args[2] or 0) & os.O_CREAT):
        opened.add(os.path.abspath(args[0]))


FeatureDistiller.loss, FrozenDetector.__call__ = noted_loss, noted_forward
OptimWrapper.step = noted_step
torch.set_num_threads(1)
sys.addaudithook(note)
try:
    runpy.run_path('tools/train.py', run_name='__main__')
finally:
    torch.save((steps, sorted(opened)), f'{OUT}/{RANK}.pth')
