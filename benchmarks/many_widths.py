"""One network of many widths, to be compared with slices one by one.

    python benchmarks/many_widths.py my.py my.pth --widths 1 .75 .5 .25

Needs ``pip install torch-pruning``. All widths share the weights of the
trained detector my.pth. Each has its most important channels (l1 over all
layers that share them, those of a GroupNorm within their groups), so that
every width is a part of each wider one, as in DynaBERT (arXiv 2004.04037). The
channels stay where they were, since their order changes nothing.

Every step trains the whole width, the smallest and one drawn at random between
them (the sandwich of arXiv 1903.05134, which draws two), and their gradients
are summed. Besides their own losses the smaller ones learn what the whole
width predicts in the same step, before any decoding; of a two-stage detector,
what its RPN predicts. Batch norms have statistics for each width, which are
measured anew at the end.

Optimizer and schedule are the config's, the schedule shortened to --epochs.
Written to --out are a config and a checkpoint for each width, which mmdet
reads. Printed are the box APs on the validation set and the parameters. A line
with all of it is added to benchmarks/evidence/many_widths.jsonl.
"""
import argparse
import copy
import os
import random
import time
from importlib.metadata import version
from typing import Any, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from evidence.jobs.training import made_with
from evidence.store import append_result, results_file
from mmdet.models.detectors import BaseDetector
from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.func import functional_call

from mtpd.command_line import plain_errors
from mtpd.compat.checkpoints import checkpoint_hash
from mtpd.compress import CannotSlice, Narrowed, narrowed, sliced_detector
from mtpd.compress.budget import parameters
from mtpd.compress.calibrate import IMAGES, image_problems, recalibrate
from mtpd.compress.channels import slice_weights, torch_pruning
from mtpd.compress.files import Files, config_text, saved, write_together
from mtpd.compress.slicing import built
from mtpd.config_types import dict_of
from mtpd.plan.detectors import DetectorSpec, load_config
from mtpd.predict.evaluation import evaluate_checkpoint
from mtpd.show.tables import text_table
from mtpd.stage.runner import StageRunner


WEIGHT = .1
"""Of the error of each output. With 1, the widths of BCCD's student ended at
AP 35.5, 26.5, 21.0 and 5.3; with this, at 36.5, 34.4, 30.4 and 9.4."""


class Width:
    """One width of the network, with batch norms of its own.

    Attributes:
        detector: Its own weights are copies, up to date after :meth:`load`.
        places: Parameter -> where each of its entries is among all entries of
            the original's.
    """

    def __init__(self, share: float, result: Narrowed, original: BaseDetector,
                 scores: Mapping[str, Tensor]) -> None:
        self.share, self.model = share, result.model
        counting = copy.deepcopy(original)
        for name, value in counting.named_parameters():
            if value.numel() > 2**24:  # beyond, float32 skips numbers
                raise CannotSlice([f'{name} is too large to be counted.'])
            value.data = torch.arange(value.numel()).view_as(value).to(value)
        counted = sliced_detector(
            counting, result.model, result.keeps_backbone,
            lambda group: scores[_root(counting, group)])
        self.places = {name: value.detach().long()
                       for name, value in counted.named_parameters()}
        # Of the other one all parameters take gradients, also frozen ones.
        self.detector = built(result.model)
        self.detector.dataset_meta = counted.dataset_meta
        self.detector.load_state_dict(counted.state_dict())
        self.load(dict(original.named_parameters()))
        self._outputs: list[Tensor] = []
        head = getattr(self.detector, 'rpn_head', None) \
            or self.detector.bbox_head
        head.register_forward_hook(self._keep)

    def weights(self, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its parameters, as parts of those of the whole width."""
        return {name: shared[name].take(place.to(shared[name].device))
                for name, place in self.places.items()}

    def load(self, shared: Mapping[str, Tensor]) -> None:
        """Give the detector its weights."""
        self.detector.load_state_dict(
            {**self.detector.state_dict(), **self.weights(shared)})

    def losses(self, shared: Mapping[str, Tensor], data: dict,
               taught_by: Sequence[Tensor] = ()
               ) -> tuple[dict[str, Any], list[Tensor]]:
        """The losses of a batch, and what the dense head predicts; what the
        whole width predicts teaches the others."""
        losses = functional_call(self.detector, self.weights(shared),
                                 kwargs=dict(**data, mode='loss'))
        if taught_by:
            losses['loss_distill'] = [
                WEIGHT * F.mse_loss(own, other.detach())
                for own, other in zip(self._outputs, taught_by)]
        return losses, self._outputs

    def _keep(self, head: nn.Module, inputs: Any, outputs: Any) -> None:
        self._outputs = [one for part in outputs for one in part]


class ManyWidths(nn.Module):
    """The network, for a Runner: the whole width first, the smallest last.
    Its parameters are those of the whole width."""

    def __init__(self, widths: Sequence[Width]) -> None:
        super().__init__()
        self.whole = widths[0].detector
        self.widths = tuple(widths)  # no modules here: one set of parameters

    @property
    def shared(self) -> dict[str, Tensor]:
        return dict(self.whole.named_parameters())

    def train(self, mode: bool = True) -> 'ManyWidths':
        for width in self.widths:
            width.detector.train(mode)
        return super().train(mode)

    def chosen(self) -> Iterator[tuple[str, Width]]:
        """The widths of a step with their names in the log."""
        whole, *between, smallest = self.widths
        yield 'whole', whole
        if between:
            yield 'between', random.choice(between)
        yield 'smallest', smallest

    def train_step(self, data: dict, optim_wrapper: OptimWrapper
                   ) -> dict[str, Tensor]:
        data = self.whole.data_preprocessor(data, True)
        shared, taught_by, log = self.shared, [], {}
        for name, width in self.chosen():
            with optim_wrapper.optim_context(self):
                losses, outputs = width.losses(shared, data, taught_by)
                loss, _ = self.whole.parse_losses(losses)
            optim_wrapper.backward(loss)
            taught_by = taught_by or outputs
            log[f'loss_{name}'] = loss.detach()
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        return {'loss': sum(log.values()), **log}

    def settle(self, cfg: Config, widths: Sequence[Width]) -> None:
        """Give these widths their weights, and measure their batch norms."""
        for width in widths:
            width.load(self.shared)
            recalibrate(width.detector, cfg, IMAGES)


def scores_of(original: BaseDetector, narrowest: Narrowed
              ) -> dict[str, Tensor]:
    """The first layer of each group that loses channels -> the importance of
    its channels, (C,), no two of them equal."""
    l1 = torch_pruning().importance.GroupMagnitudeImportance(p=1)
    scores: dict[str, Tensor] = {}

    def record(group: Any) -> Tensor:
        score = l1(group).double()
        # Or the best of equal ones need not be among the best of a wider one.
        score -= 1e-12 * score.max() * torch.arange(len(score))
        return scores.setdefault(_root(original, group), score)

    slice_weights(original, built(narrowest.model), narrowest.keeps_backbone,
                  record)
    return scores


def _root(detector: nn.Module, group: Any) -> str:
    """The name of the first layer of a group of torch-pruning."""
    return next(name for name, module in detector.named_modules()
                if module is group[0].dep.target.module)


def many_widths(cfg: Config, checkpoint: str, shares: Sequence[float]
                ) -> ManyWidths:
    """The network before it is trained."""
    shares = sorted(set(shares), reverse=True)
    problems = image_problems(cfg)
    if len(shares) < 2 or shares[0] != 1:
        problems.append('--widths needs 1 and at least one smaller width.')
    if not cfg.train_cfg.get('max_epochs'):
        problems.append('train_cfg.max_epochs is not set. The schedule is '
                        'shortened from it to --epochs.')
    if problems:
        raise CannotSlice(problems)
    spec = DetectorSpec('student', cfg, checkpoint)
    results = [narrowed(spec.model, share) for share in shares]
    original = spec.build()
    scores = scores_of(original, results[-1])
    network = ManyWidths([Width(share, result, original, scores)
                          for share, result in zip(shares, results)])
    network.settle(cfg, network.widths[1:])
    return network


def shortened(schedulers: Any, share: float) -> list[ConfigDict]:
    """A config's ``param_scheduler`` for a share of its epochs; what counts
    iterations, such as a warm-up, stays."""
    several = isinstance(schedulers, (list, tuple))
    changed = copy.deepcopy([*schedulers] if several else [schedulers])
    for one in changed:
        for key in {'begin', 'end', 'T_max', 'milestones'} & one.keys():
            if one.get('by_epoch', True):
                one[key] = [round(epoch * share) for epoch in one[key]] \
                    if key == 'milestones' else round(one[key] * share)
    return changed


def train(network: ManyWidths, cfg: Config, args: argparse.Namespace) -> None:
    """Train all widths, and measure their batch norms."""
    StageRunner(
        network, args.out, cfg.train_dataloader,
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=args.epochs),
        optim_wrapper=cfg.optim_wrapper, param_scheduler=shortened(
            cfg.get('param_scheduler') or [],
            args.epochs / cfg.train_cfg.max_epochs),
        default_hooks=dict(
            checkpoint=None, logger=dict_of(cfg, 'default_hooks').get(
                'logger', dict(type='LoggerHook'))),
        default_scope='mmdet', randomness=dict(seed=args.seed),
        experiment_name=os.path.abspath(args.out).replace(os.sep, '_')
    ).train()
    network.settle(cfg, network.widths)


def written(width: Width, cfg: Config, folder: str) -> tuple[str, str]:
    """Config and checkpoint of a width, which are written."""
    stem = os.path.splitext(os.path.basename(cfg.filename))[0]
    name = f'{stem}_w{100 * width.share:g}'.replace('.', '_')
    config, weights = (os.path.join(folder, name + end)
                       for end in ('.py', '.pth'))
    about = f'with {100 * width.share:g}% of the channels. The weights are'
    text = config_text(Files(config, weights, ''), cfg, width.model, about, [])
    write_together({config: text.encode(), weights: saved(width.detector)})
    return config, weights


def box_ap(config: str, checkpoint: str, folder: str) -> float:
    """Box AP on the validation set in percent."""
    cfg = load_config(config)
    for key in ('test_dataloader', 'test_evaluator'):
        cfg.pop(key, None)  # or the test set would be used
    cfg.work_dir = os.path.join(folder, 'test')
    return 100 * evaluate_checkpoint(cfg, checkpoint)['coco/bbox_mAP']


def run(args: argparse.Namespace) -> None:
    cfg = load_config(args.config)
    stem = os.path.splitext(os.path.basename(args.config))[0]
    args.out = args.out or f'work_dirs/many_widths/{stem}_seed{args.seed}'
    began = time.monotonic()
    network = many_widths(cfg, args.checkpoint, args.widths)
    train(network, cfg, args)
    seconds = time.monotonic() - began
    aps = {'original': box_ap(args.config, args.checkpoint, args.out)}
    counts = {'original': parameters(network.whole)}
    for width in network.widths:
        name = f'{width.share:g}'
        aps[name] = box_ap(*written(width, cfg, args.out), args.out)
        counts[name] = parameters(width.detector)
    config = os.path.relpath(args.config)
    append_result(results_file('many_widths'), f'{config} seed {args.seed}', {
        'config': config, 'start': checkpoint_hash(args.checkpoint),
        'widths': args.widths, 'epochs': args.epochs, 'seed': args.seed,
        'AP': aps, 'parameters': counts, 'seconds': seconds, 'made_with': {
            **made_with(), 'torch-pruning': version('torch-pruning')}})
    print(text_table(
        f'{args.epochs} epochs, seed {args.seed}, {seconds:.0f} s',
        ('width', 'AP', 'parameters'),
        [(name, f'{ap:.1f}', f'{counts[name]:,.0f}')
         for name, ap in aps.items()]))


def main() -> None:
    flags = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument('config')
    flags.add_argument('checkpoint')
    flags.add_argument('--widths', type=float, nargs='+',
                       default=[1, .75, .5, .25])
    flags.add_argument('--epochs', type=int, default=6)
    flags.add_argument('--out', help='folder of what is written')
    flags.add_argument('--seed', type=int, default=0)
    args = flags.parse_args()
    DefaultScope.get_instance('many_widths', scope_name='mmdet')
    with plain_errors():
        run(args)


if __name__ == '__main__':
    main()
