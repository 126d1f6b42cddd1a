"""Reference numbers of the authors' own losses, and checks that the tests of
all mechanisms share."""
import json
from pathlib import Path
from typing import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtpd.distill.losses import BatchContext, Mechanism, Pairing

DATA = Path(__file__).parents[2] / 'data' / 'distill_losses_reference.npz'


@pytest.fixture(scope='session')
def reference():
    """reference(case): the arrays as tensors, ``kwargs`` as a dict."""
    with np.load(DATA) as file:
        arrays = {key: file[key] for key in file.files}

    def case(name: str) -> dict:
        own = {key.removeprefix(name + '/'): array
               for key, array in arrays.items() if key.startswith(name + '/')}
        kwargs = json.loads(str(own.pop('kwargs')))
        return {**{k: torch.from_numpy(v) for k, v in own.items()},
                'kwargs': kwargs}
    return case


@pytest.fixture
def bare() -> BatchContext:
    """For mechanisms that look at maps only."""
    return BatchContext(size=(40, 56), boxes=(torch.zeros(0, 4),) * 2)


def total(mechanism: Mechanism, student: Tensor, teacher: Tensor,
          context: BatchContext) -> Tensor:
    """The loss over one level of stride 8."""
    losses = mechanism({8: student}, {8: teacher}, context)
    assert list(losses) == ['loss_distill_s8']
    return losses['loss_distill_s8']


@pytest.fixture
def loss_of():
    return total


def close(actual: Tensor, expected: Tensor, name: str,
          scale: float | None = None) -> None:
    """Within 1e-5 of the largest absolute value."""
    assert actual.shape == expected.shape, name
    scale = expected.abs().max().item() if scale is None else scale
    error = (actual.detach() - expected).abs().max().item()
    assert error <= 1e-5 * scale, f'{name}: {error} of {scale}'


@pytest.fixture
def agrees(bare):
    """agrees(mechanism, case, names, context): loss and all gradients are the
    authors'. ``names``: parameter of the mechanism -> theirs."""
    def check(mechanism: Mechanism, case: Mapping[str, Tensor],
              names: Mapping[str, str] = {},
              context: BatchContext = bare) -> None:
        parameters = dict(mechanism.named_parameters())
        assert set(parameters) == set(names)
        theirs = {n for n in case if n.startswith('param:')}
        align = nn.Identity()
        if 'param:align.weight' in case:
            align = nn.Conv2d(*case['param:align.weight'].shape[1::-1], 1)
            parameters |= {f'align.{n}': p
                           for n, p in align.named_parameters()}
            names = {**names, 'align.weight': 'align.weight',
                     'align.bias': 'align.bias'}
        assert {f'param:{n}' for n in names.values()} == theirs
        with torch.no_grad():
            for own, other in names.items():
                parameters[own].copy_(case[f'param:{other}'])
        student = case['student'].clone().requires_grad_()
        loss = total(mechanism, align(student), case['teacher'], context)
        loss.backward()
        close(loss, case['loss'], 'loss')
        close(student.grad, case['grad_student'], 'grad_student')
        for own, other in names.items():
            scale = None
            if 'conv_mask' in other and other.endswith('bias'):
                # A constant before a softmax: the gradient is 0, and both
                # have rounding noise of 1e-12 there.
                scale = case[f'grad:{other[:-4]}weight'].abs().max().item()
            close(parameters[own].grad, case[f'grad:{other}'], other, scale)
    return check


@pytest.fixture
def differentiates(bare):
    """differentiates(mechanism, context): gradients of the student's map and
    of all parameters against finite differences, in float64."""
    def check(mechanism: Mechanism, context: BatchContext = bare,
              channels: int = 4) -> None:
        torch.manual_seed(0)
        mechanism = mechanism.double()
        for parameter in mechanism.parameters():
            nn.init.normal_(parameter, std=0.5)
        names = [n for n, _ in mechanism.named_parameters()]
        values = [p.detach().clone().requires_grad_()
                  for p in mechanism.parameters()]
        student, teacher = torch.randn(2, 2, channels, 3, 4).double()

        def loss(own: Tensor, *parameters: Tensor) -> Tensor:
            return sum(functional_call(
                mechanism, dict(zip(names, parameters)),
                ({8: own}, {8: teacher}, context)).values())
        assert torch.autograd.gradcheck(
            loss, (student.requires_grad_(), *values))
    return check


@pytest.fixture
def pairing() -> Pairing:
    """A one-stage student taught by a teacher of 4 channels at stride 8."""
    return Pairing({8: 4})
