"""mmcv's operators by torchvision's, against mmcv's own compiled ones."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mtpd.compat.operators import install_operators

install_operators()

import mmcv.ops  # noqa: E402
from mmcv.utils import ext_loader  # noqa: E402

OPERATORS = Path(__file__).parents[2] / 'mtpd' / 'compat' / 'operators.py'
REFERENCE = np.load(
    Path(__file__).parents[1] / 'data' / 'mmcv_ops_reference.npz')
CASES = sorted({key.split('/')[0] for key in REFERENCE.files})

# Another order of float32 operations may change the last digits only. Max RoI
# Align computes its sample points, a few units from 0, in another way.
CLOSE = dict(rtol=1e-5, atol=5e-6)
# Sums of up to a few hundred products of either sign.
SUMMED = dict(rtol=1e-5, atol=1e-5)


def case(name: str) -> dict:
    prefix = f'{name}/'
    values = {
        key[len(prefix):]: REFERENCE[key]
        for key in REFERENCE.files if key.startswith(prefix)
    }
    kwargs = json.loads(str(values.pop('kwargs')))
    return dict(
        kwargs=kwargs,
        **{key: torch.from_numpy(value)
           for key, value in values.items()})


def named(*starts: str) -> list[str]:
    return [name for name in CASES if name.startswith(starts)]


def gradients(function, inputs: dict, grad_y, *args) -> dict:
    leaves = {k: v.clone().requires_grad_() for k, v in inputs.items()}
    y = function(*leaves.values(), *args)
    y.backward(grad_y)
    return dict(y=y.detach(), **{f'grad_{k}': v.grad
                                 for k, v in leaves.items()})


def test_every_reference_case_is_tested():
    tested = named('nms_', 'batched_nms', 'soft_nms', 'roi_align_',
                   'deform_conv2d_', 'modulated_deform_conv2d_')
    assert sorted(tested) == CASES and len(CASES) == 24


# ------------------------------------------------------------------------ NMS


@pytest.mark.parametrize('name', named('nms_'))
def test_nms(name):
    c = case(name)
    dets, keep = mmcv.ops.nms(c['boxes'], c['scores'], **c['kwargs'])
    assert torch.equal(keep, c['keep'])
    assert torch.equal(dets, c['dets'])


def test_batched_nms():
    c = case('batched_nms')
    dets, keep = mmcv.ops.batched_nms(c['boxes'], c['scores'], c['idxs'],
                                      c['kwargs'])
    assert torch.equal(keep, c['keep'])
    assert torch.equal(dets, c['dets'])


@pytest.mark.parametrize('name', named('soft_nms'))
def test_soft_nms(name):
    c = case(name)
    dets, keep = mmcv.ops.soft_nms(c['boxes'], c['scores'], **c['kwargs'])
    assert torch.equal(keep, c['keep'])
    torch.testing.assert_close(dets, c['dets'], **CLOSE)


def soft_nms_one_by_one(boxes, scores, threshold, min_score, offset):
    """Linear soft-NMS box by box, each gap closed with the last box."""
    boxes, scores, order = boxes.double(), scores.double().clone(), list(
        range(len(boxes)))
    first = 0
    while first < len(order):
        rest = [scores[i].item() for i in order[first:]]
        best = first + rest.index(max(rest))
        order[first], order[best] = order[best], order[first]
        a = boxes[order[first]]
        position = first + 1
        while position < len(order):
            b = boxes[order[position]]
            size = [(min(a[d + 2], b[d + 2]) - max(a[d], b[d]) + offset).clamp(
                min=0) for d in (0, 1)]
            area = [(x[2] - x[0] + offset) * (x[3] - x[1] + offset)
                    for x in (a, b)]
            inter = size[0] * size[1]
            iou = inter / (area[0] + area[1] - inter)
            if iou >= threshold:
                scores[order[position]] *= 1 - iou
            if scores[order[position]] < min_score:
                order[position] = order[-1]
                order.pop()
            else:
                position += 1
        first += 1
    return order, scores


@pytest.mark.parametrize('offset', [0, 1])
def test_soft_nms_keeps_order_of_ties_and_closes_gaps(offset):
    torch.manual_seed(0)
    corner = torch.randint(0, 30, (120, 2)).float()
    boxes = torch.cat([corner, corner + torch.randint(5, 25, (120, 2))], 1)
    scores = torch.randint(1, 6, (120, )) / 8.0  # many ties
    order, after = soft_nms_one_by_one(boxes, scores, 0.3, 0.1, offset)
    dets, keep = mmcv.ops.soft_nms(
        boxes, scores, 0.3, min_score=0.1, method='linear', offset=offset)
    assert 0 < len(order) < 120
    assert keep.tolist() == order
    torch.testing.assert_close(
        dets, torch.cat([boxes[order], after[order].float()[:, None]], 1))


def test_nms_of_no_boxes_is_empty():
    boxes, scores = torch.zeros(0, 4), torch.zeros(0)
    for function in (mmcv.ops.nms, mmcv.ops.soft_nms):
        dets, keep = function(boxes, scores, iou_threshold=0.5)
        assert dets.shape == (0, 5) and keep.shape == (0, )


# ------------------------------------------------------------------ RoI Align


@pytest.mark.parametrize('name', named('roi_align'))
def test_roi_align(name):
    c = case(name)
    k = c['kwargs']
    got = gradients(
        lambda x: mmcv.ops.roi_align(x, c['rois'], tuple(k['output_size']), k[
            'spatial_scale'], k['sampling_ratio'], k['pool_mode'], k['aligned']
                                     ), dict(x=c['x']), c['grad_y'])
    torch.testing.assert_close(got['y'], c['y'], **CLOSE)
    torch.testing.assert_close(got['grad_x'], c['grad_x'], **SUMMED)


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align_of_regions_without_size_and_of_no_regions(mode, ratio):
    x = torch.rand(1, 2, 8, 8, requires_grad=True)
    rois = torch.tensor([[0, 3., 3., 3., 3.], [0, 1., 1., 6., 5.]])
    y = mmcv.ops.roi_align(x, rois, 2, 1.0, ratio, mode, True)
    alone = mmcv.ops.roi_align(x, rois[1:], 2, 1.0, ratio, mode, True)
    assert torch.equal(y[1:], alone)
    if ratio == 0:
        assert y[0].eq(0).all()
    y.sum().backward()
    assert x.grad.isfinite().all()
    assert mmcv.ops.roi_align(x, rois[:0], 2, 1.0, ratio, mode,
                              True).shape == (0, 2, 2, 2)


# ----------------------------------------------------- deformable convolution


@pytest.mark.parametrize('name', named('deform_conv2d'))
def test_deform_conv2d(name):
    c = case(name)
    inputs = {key: c[key] for key in ('x', 'offset', 'weight')}
    got = gradients(mmcv.ops.deform_conv2d, inputs, c['grad_y'],
                    *c['kwargs'].values())
    for key, value in got.items():
        torch.testing.assert_close(value, c[key], **SUMMED)


@pytest.mark.parametrize('name', named('modulated_deform_conv2d'))
def test_modulated_deform_conv2d(name):
    c = case(name)
    inputs = {
        key: c[key]
        for key in ('x', 'offset', 'mask', 'weight', 'bias')
    }
    got = gradients(mmcv.ops.modulated_deform_conv2d, inputs, c['grad_y'],
                    *c['kwargs'].values())
    for key, value in got.items():
        torch.testing.assert_close(value, c[key], **SUMMED)


def test_modulated_deform_conv2d_without_bias():
    c = case(named('modulated_deform_conv2d')[0])
    inputs = {key: c[key] for key in ('x', 'offset', 'mask', 'weight')}
    got = gradients(
        lambda *t: mmcv.ops.modulated_deform_conv2d(*t, None, *c['kwargs'].
                                                    values()), inputs,
        c['grad_y'])
    torch.testing.assert_close(got['y'] + c['bias'][:, None, None], c['y'],
                               **SUMMED)
    for key in inputs:
        torch.testing.assert_close(got[f'grad_{key}'], c[f'grad_{key}'],
                                   **SUMMED)


def test_an_offset_that_is_nan_samples_nothing():
    """torchvision's own kernel crashes the process for nan."""
    torch.manual_seed(0)
    x, weight = torch.randn(1, 4, 8, 8), torch.randn(4, 4, 3, 3)
    offset, mask = torch.randn(1, 18, 8, 8), torch.rand(1, 9, 8, 8)
    results = []
    for value in (torch.nan, 1e30):
        given = [t.clone().requires_grad_() for t in (x, offset, weight)]
        with torch.no_grad():
            given[1][0, 4] = value
        for y in (mmcv.ops.deform_conv2d(*given, 1, 1),
                  mmcv.ops.modulated_deform_conv2d(
                      given[0], given[1], mask, given[2], None, 1, 1)):
            y.square().sum().backward()
            results.append((y.detach(), *(t.grad.clone() for t in given)))
    for one, other in zip(results[:2], results[2:]):
        for actual, expected in zip(one, other):
            torch.testing.assert_close(actual, expected)
            assert actual.isfinite().all()


def test_weight_gradient_is_never_that_of_another_backward():
    c = case(named('deform_conv2d')[0])
    x, offset, weight = (c[k].clone().requires_grad_()
                         for k in ('x', 'offset', 'weight'))
    y = mmcv.ops.deform_conv2d(x, offset, weight, *c['kwargs'].values())
    torch.autograd.grad(y, x, c['grad_y'], retain_graph=True)
    twice, = torch.autograd.grad(y, weight, 2 * c['grad_y'], retain_graph=True)
    torch.testing.assert_close(twice, 2 * c['grad_weight'], **SUMMED)
    _, again = torch.autograd.grad(y, (x, weight), c['grad_y'])
    torch.testing.assert_close(again, c['grad_weight'], **SUMMED)


# --------------------------------------------------------- sigmoid focal loss


@pytest.mark.parametrize('gamma,alpha', [(2.0, 0.25), (1.5, 0.6)])
def test_sigmoid_focal_loss_equals_mmdets_own(gamma, alpha):
    from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss
    torch.manual_seed(0)
    logits = 4 * torch.randn(50, 7, dtype=torch.double)
    target = torch.randint(0, 8, (50, ))  # 7 is background
    assert (target == 7).any()
    grad_y = torch.rand(50, 7, dtype=torch.double)
    got = gradients(
        lambda x: mmcv.ops.sigmoid_focal_loss(x, target, gamma, alpha, None,
                                              'none'), dict(x=logits), grad_y)
    onehot = torch.nn.functional.one_hot(target, 8)[:, :7]
    expected = gradients(
        lambda x: py_sigmoid_focal_loss(
            x, onehot, gamma=gamma, alpha=alpha, reduction='none'),
        dict(x=logits), grad_y)
    for key in expected:
        torch.testing.assert_close(got[key], expected[key])


def test_sigmoid_focal_loss_weighs_by_target_and_background_by_one():
    logits = torch.randn(4, 3, dtype=torch.double)
    target = torch.tensor([0, 2, 3, 1])
    weight = torch.tensor([0.5, 2.0, 4.0], dtype=torch.double)
    grad_y = torch.ones(4, 3, dtype=torch.double)

    def loss(weight):
        return gradients(
            lambda x: mmcv.ops.sigmoid_focal_loss(x, target, 2.0, 0.25, weight,
                                                  'none'), dict(x=logits),
            grad_y)

    plain, weighed = loss(None), loss(weight)
    factor = torch.tensor([0.5, 4.0, 1.0, 2.0], dtype=torch.double)[:, None]
    for key in plain:
        torch.testing.assert_close(weighed[key], plain[key] * factor)


def test_sigmoid_focal_loss_of_confident_mistakes_is_not_capped():
    logits = torch.tensor([[30.0], [-200.0]], requires_grad=True)
    target = torch.tensor([1, 0])  # background, class 0
    loss = mmcv.ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, None, 'none')
    torch.testing.assert_close(loss, torch.tensor([[22.5], [50.0]]))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.75], [-0.25]]))


# -------------------------------------------------------------- number formats


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_and_bfloat16_are_computed_in_float32(dtype):
    c = case('roi_align_max_aligned1_sr0')
    x, rois = c['x'].to(dtype), c['rois'].to(dtype)
    for mode in ('avg', 'max'):
        y = mmcv.ops.roi_align(x, rois, (7, 5), 0.25, 0, mode, True)
        wide = mmcv.ops.roi_align(x.float(), rois.float(), (7, 5), 0.25, 0,
                                  mode, True)
        assert y.dtype == dtype and torch.equal(y, wide.to(dtype))

    c = case(named('deform_conv2d')[0])
    inputs = {k: c[k].to(dtype) for k in ('x', 'offset', 'weight')}
    got = gradients(mmcv.ops.deform_conv2d, inputs, c['grad_y'].to(dtype),
                    *c['kwargs'].values())
    wide = gradients(mmcv.ops.deform_conv2d,
                     {k: v.float() for k, v in inputs.items()},
                     c['grad_y'].to(dtype).float(), *c['kwargs'].values())
    for key in got:
        assert torch.equal(got[key], wide[key].to(dtype))

    boxes, scores = torch.rand(20, 4).to(dtype), torch.rand(20).to(dtype)
    boxes[:, 2:] += boxes[:, :2]
    for function in (mmcv.ops.nms, mmcv.ops.soft_nms):
        dets, keep = function(boxes, scores, iou_threshold=0.5)
        _, wide = function(boxes.float(), scores.float(), iou_threshold=0.5)
        assert dets.dtype == dtype and torch.equal(keep, wide)


# ------------------------------------------------------------------ the module


def test_module_is_found_like_a_compiled_one():
    import importlib
    import importlib.util
    spec = importlib.util.find_spec('mmcv._ext')
    assert spec.name == 'mmcv._ext'
    assert ext_loader.check_ops_exist()
    module = importlib.import_module('mmcv._ext')
    assert module is mmcv._ext and module.__spec__ is spec
    assert install_operators() is False
    assert sys.modules['mmcv._ext'] is module


def test_unknown_operator_names_itself_when_called():
    dets = torch.rand(3, 5)
    with pytest.raises(NotImplementedError, match=r"'nms_match'.*mmcv==2\.1"):
        mmcv.ops.nms_match(dets, 0.5)
    with pytest.raises(AttributeError, match='__path__'):
        mmcv._ext.__path__


def test_offsets_on_another_grid_than_the_outputs_name_the_cure():
    """mmdet's DyHead has them; torchvision says 'offset output dims'."""
    with pytest.raises(NotImplementedError, match=r'lie on 8x8 positions and '
                       r"its outputs on 4x4, .*DyHead.*mmcv==2\.1"):
        mmcv.ops.modulated_deform_conv2d(
            torch.rand(1, 2, 8, 8), torch.rand(1, 18, 8, 8),
            torch.rand(1, 9, 8, 8), torch.rand(2, 2, 3, 3), None, 2, 1)


# Loads operators.py without the package, then runs each piece of code in its
# own fork, since importing torch takes most of the time.
FORK = '''
import importlib.util, json, os, sys
operators_path, folder, codes = sys.argv[1:]
spec = importlib.util.spec_from_file_location('operators_alone',
                                              operators_path)
operators = importlib.util.module_from_spec(spec)
spec.loader.exec_module(operators)
for name, code in json.loads(codes).items():
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        continue
    sys.stdout = sys.stderr = open(os.path.join(folder, name), 'w')
    try:
        exec(code, dict(operators=operators, folder=folder, sys=sys))
    except BaseException:
        import traceback
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(0)
'''

STOCK_MMDET = '''
assert operators.install_operators() is True
import mmdet.models
from mmdet.registry import MODELS
assert MODELS.get('RetinaNet') is not None
print([name for name in sys.modules if name.split('.')[0] == 'mtpd'])
'''

# What Python does at its start where mtpd is installed.
AT_START = f'''
sys.path.insert(0, {str(OPERATORS.parents[2] / 'startup')!r})
import mtpd_operators
mtpd_operators.install()
mtpd_operators.install()
'''

MMDET_AT_START = AT_START + '''
from mmdet.registry import MODELS
import mmdet.models
assert MODELS.get('RetinaNet') is not None
import importlib, mmcv._ext, torch
assert operators.install_operators() is False
assert importlib.util.find_spec('mmcv._ext').origin == 'torchvision'
print(mmcv.ops.nms(torch.tensor([[0., 0., 1., 1.]]), torch.ones(1), .5)[1],
      [name for name in sys.modules if name.split('.')[0] == 'mtpd'])
'''

COMPILED_AT_START = AT_START + '''
import mmcv
mmcv.__path__.append(folder)
import mmcv._ext
print(mmcv._ext.ORIGIN)
'''

UNINSTALLED = AT_START + '''
mtpd_operators._operators_file = lambda: None
try:
    import mmcv.ops
except ModuleNotFoundError as error:
    print(error)
'''

COMPILED_ON_DISK = '''
import mmcv
mmcv.__path__.append(folder)
assert operators.install_operators() is False
assert 'mmcv._ext' not in sys.modules
import mmcv._ext
print(mmcv._ext.ORIGIN)
'''

ALREADY_IMPORTED = '''
import types
from importlib.machinery import ModuleSpec
module = types.ModuleType('mmcv._ext')
module.__spec__ = ModuleSpec('mmcv._ext', None)
sys.modules['mmcv._ext'] = module
assert operators.install_operators() is False
print(sys.modules['mmcv._ext'] is module)
'''


@pytest.fixture(scope='module')
def outputs(tmp_path_factory):
    """name -> output of a process without mtpd that ran a piece of code."""
    folder = tmp_path_factory.mktemp('alone')
    (folder / '_ext.py').write_text('ORIGIN = "compiled"\n')
    codes = dict(stock_mmdet=STOCK_MMDET, compiled_on_disk=COMPILED_ON_DISK,
                 already_imported=ALREADY_IMPORTED,
                 mmdet_at_start=MMDET_AT_START,
                 compiled_at_start=COMPILED_AT_START, uninstalled=UNINSTALLED)
    subprocess.run([sys.executable, '-c', FORK, OPERATORS, folder,
                    json.dumps(codes)], check=True, cwd=OPERATORS.anchor,
                   env={**os.environ, 'OMP_NUM_THREADS': '1'})
    return {name: (folder / name).read_text().strip() for name in codes}


def test_file_alone_lets_stock_mmdet_be_imported(outputs):
    assert outputs['stock_mmdet'] == '[]'


def test_compiled_operators_on_disk_are_kept(outputs):
    assert outputs['compiled_on_disk'] == 'compiled'


def test_operators_already_imported_are_kept(outputs):
    assert outputs['already_imported'] == 'True'


def test_every_process_of_the_environment_can_import_mmdet(outputs):
    assert outputs['mmdet_at_start'] == 'tensor([0]) []'
    assert outputs['compiled_at_start'] == 'compiled'
    assert outputs['uninstalled'] == "No module named 'mmcv._ext'"
