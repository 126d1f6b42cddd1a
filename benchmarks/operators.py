"""Operators on a device against mmcv 2.1.0's own.

    python benchmarks/operators.py --device cuda

Runs the reference cases of tests/data/mmcv_ops_reference.npz (values and
gradients of mmcv's compiled CPU operators) on a device and prints the largest
error of each case, relative to the largest value. The focal loss, which mmdet
calls on CUDA only, is compared with mmdet's formula in Python.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch

import mtpd  # noqa: F401  (installs the operators)
import mmcv.ops
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss

REFERENCE = Path(__file__).parents[1] / 'tests/data/mmcv_ops_reference.npz'


def error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest absolute difference over the reference's largest value."""
    if ours.shape != reference.shape:
        return float('inf')
    scale = reference.abs().max().clamp(min=1e-12)
    return ((ours.cpu().double() - reference.double()).abs().max()
            / scale).item()


def run(name: str, case: dict, device: str) -> dict[str, float]:
    """Run one reference case; returns output or gradient -> relative error."""
    kwargs = json.loads(str(case.pop('kwargs')))
    tensors = {k: torch.from_numpy(v) for k, v in case.items()}
    if 'dets' in tensors:
        boxes = tensors['boxes'].to(device)
        scores = tensors['scores'].to(device)
        if name == 'batched_nms':
            dets, keep = mmcv.ops.batched_nms(
                boxes, scores, tensors['idxs'].to(device), kwargs)
        else:
            function = mmcv.ops.soft_nms if name.startswith('soft') \
                else mmcv.ops.nms
            dets, keep = function(boxes, scores, **kwargs)
        return {'dets': error(dets, tensors['dets']),
                'keep': float(not torch.equal(keep.cpu(), tensors['keep']))}
    inputs = {k: tensors[k].to(device).requires_grad_(k != 'rois')
              for k in ('x', 'rois', 'offset', 'mask', 'weight', 'bias')
              if k in tensors}
    function = {'roi': mmcv.ops.roi_align, 'def': mmcv.ops.deform_conv2d,
                'mod': mmcv.ops.modulated_deform_conv2d}[name[:3]]
    y = function(*inputs.values(), *kwargs.values())
    y.backward(tensors['grad_y'].to(device))
    return {'y': error(y.detach(), tensors['y']),
            **{f'grad_{k}': error(v.grad, tensors[f'grad_{k}'])
               for k, v in inputs.items() if v.requires_grad}}


def focal_loss(device: str) -> dict[str, float]:
    """Errors of the loss and its gradient; the targets include background
    (label 80)."""
    torch.manual_seed(0)
    logits = 3 * torch.randn(4096, 80)
    labels = torch.randint(0, 81, (4096,))
    results = []
    for on, function in (
            (device, mmcv.ops.sigmoid_focal_loss),
            ('cpu', lambda x, t, *_: py_sigmoid_focal_loss(
                x, torch.nn.functional.one_hot(t, 81)[:, :80],
                reduction='none'))):
        x = logits.to(on).requires_grad_()
        y = function(x, labels.to(on), 2.0, 0.25, None, 'none')
        y.sum().backward()
        results.append((y.detach().cpu(), x.grad.cpu()))
    return {'y': error(results[0][0], results[1][0]),
            'grad_x': error(results[0][1], results[1][1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--device', default='cuda')
    device = parser.parse_args().device
    name = torch.cuda.get_device_name() if device == 'cuda' else device
    print(f'{name}, torch {torch.__version__}')
    with np.load(REFERENCE) as file:
        values = {key: file[key] for key in file.files}
    for name in dict.fromkeys(key.split('/')[0] for key in values):
        case = {key.split('/')[1]: value for key, value in values.items()
                if key.split('/')[0] == name}
        print(name, {k: f'{v:.1e}' for k, v in
                     run(name, case, device).items()})
    print('sigmoid_focal_loss', {k: f'{v:.1e}' for k, v in
                                 focal_loss(device).items()})


if __name__ == '__main__':
    main()
