"""mmcv's operators by those of torchvision, for an mmcv without compiled code.

mmdet 3.3.0 cannot be imported without ``mmcv._ext`` (42 of its files import
``mmcv.ops``), and mmcv 2.1.0 publishes this module as source only, which takes
a quarter of an hour to compile for every new torch. torchvision's wheels
contain compiled operators with the same arithmetic, for CPU and CUDA. This
file builds a module named ``mmcv._ext`` from them.

It is one file and imports nothing of this package, so that a process without
mtpd can load it alone and call :func:`install_operators`. The installed
package does so for every process that imports ``mmcv.ops``
(``startup/mtpd_operators.py``).

No longer needed once mmcv (or a fork with its import name) ships wheels with
compiled operators for the installed torch; such an mmcv is left untouched.

Half and bfloat16 tensors are computed in float32 and cast back, as torchvision
itself does under autocast; it has no bfloat16 kernels.
"""
import importlib.util
import sys
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

NAME = 'mmcv._ext'
ORIGIN = 'torchvision'
"""Of the module's spec, by which it is told from a compiled one."""


class MissingOperator(NotImplementedError):
    """An operator of mmcv that torchvision lacks."""


def install_operators() -> bool:
    """Put torchvision's operators where ``mmcv.ops`` looks for its own.

    Must be called before the first import of ``mmcv.ops`` or ``mmdet``.

    Returns:
        True if the module was installed; False if there is one already,
        mmcv's own or ours.

    Raises:
        ModuleNotFoundError: mmcv itself is not installed.
    """
    found = importlib.util.find_spec(NAME)
    # One of origin 'torchvision' that is not imported yet is what
    # startup/mtpd_operators.py would make of this file.
    if found is not None and (NAME in sys.modules or found.origin != ORIGIN):
        return False
    loader = _TorchvisionLoader()
    module = importlib.util.module_from_spec(
        ModuleSpec(NAME, loader, origin=ORIGIN))
    loader.exec_module(module)
    sys.modules[NAME] = module
    vars(sys.modules['mmcv'])['_ext'] = module
    return True


class _TorchvisionLoader(Loader):
    """Fills the module; mmcv calls a module without a loader missing."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        fill(module)


def fill(module: ModuleType) -> None:
    """Put the operators into a new module."""
    module.__doc__ = __doc__
    vars(module)['__getattr__'] = _missing
    for function in (
            nms, softnms, roi_align_forward, roi_align_backward,
            deform_conv_forward, deform_conv_backward_input,
            deform_conv_backward_parameters,
            modulated_deform_conv_forward, modulated_deform_conv_backward,
            sigmoid_focal_loss_forward, sigmoid_focal_loss_backward,
            get_compiler_version, get_compiling_cuda_version):
        setattr(module, function.__name__, function)


def _missing(name: str) -> Callable:
    """An operator that torchvision lacks: it can be imported, not called.

    ``mmcv.ops`` asserts at import that every operator exists, so every name
    must resolve; a call raises.
    """
    if name.startswith('__'):
        raise AttributeError(f'module {NAME!r} has no attribute {name!r}')

    def unavailable(*args: Any, **kwargs: Any) -> NoReturn:
        raise MissingOperator(
            f'mtpd has no operator {name!r} of mmcv among those that it takes '
            f'from torchvision {torchvision.__version__}. {_INSTALL}')

    unavailable.__name__ = name
    return unavailable


_INSTALL = (
    'Install mmcv with its compiled operators, built against the installed '
    f'torch {torch.__version__}: pip uninstall mmcv-lite; MMCV_WITH_OPS=1 pip '
    'install mmcv==2.1.0 --no-build-isolation --no-cache-dir')


def get_compiler_version() -> str:
    return f"that of torchvision {torchvision.__version__}'s wheel"


def get_compiling_cuda_version() -> str:
    cuda = torch.version.cuda
    return f"torchvision {torchvision.__version__}'s, " + (
        f'CUDA {cuda}' if cuda else 'without CUDA')


def _wide(*tensors: Tensor) -> list[Tensor]:
    """The tensors, contiguous; half and bfloat16 ones as float32."""
    return [(t.float() if t.dtype in (torch.half, torch.bfloat16) else
             t).contiguous() for t in tensors]


# ------------------------------------------------------------------------ NMS


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float,
        offset: int) -> Tensor:
    """Indices (K,) of the kept ones of ``boxes`` (N, 4), best score first.

    Args:
        offset: 1 if a box includes its last pixel, so that its width is
            x2 - x1 + 1; torchvision computes the same if x2 and y2 are raised.
    """
    boxes, scores = _wide(boxes, scores)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares with a float32 threshold. In double, 0.3 is another number,
    # and an IoU of exactly this value would be decided differently.
    return torch.ops.torchvision.nms(boxes, scores,
                                     float(np.float32(iou_threshold)))


def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, iou_threshold: float,
            sigma: float, min_score: float, method: int,
            offset: int) -> Tensor:
    """Soft-NMS on the CPU: overlapping boxes lose score and are not removed.

    Repeatedly takes the best remaining box and multiplies the scores of the
    others by a weight that depends on their IoU with it. A box below
    ``min_score`` is dropped, and the last one takes its place. This order is
    mmcv's, because it decides which of two equal scores comes first.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2.
        dets: (N, 5), filled in place with boxes and their final scores in the
            order of the returned indices; later rows are undefined.
        method: 0 naive (weight 0 at or above the threshold), 1 linear
            (1 - IoU there), 2 gaussian (exp(-IoU^2 / sigma) everywhere).
        offset: See :func:`nms`.

    Returns:
        (K,) indices into ``boxes``.

    Source:
        Bodla et al., ICCV 2017 (arXiv 1704.04503).
    """
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.long)
    # float32 throughout, as in mmcv: a threshold in double would decide
    # differently.
    f32 = np.float32
    threshold, spread = f32(iou_threshold), f32(sigma)
    corners = boxes.detach().float().numpy().T.copy()  # (4, N)
    score = scores.detach().float().numpy().copy()
    extent = corners[2:] - corners[:2] + f32(offset)
    area = extent[0] * extent[1]
    order = np.arange(len(score))  # position -> index into boxes

    end, first = len(score), 0
    while first < end:
        best = first + int(score[order[first:end]].argmax())
        order[[first, best]] = order[[best, first]]
        chosen, rest = order[first], order[first + 1:end]
        low = np.maximum(corners[:2, chosen, None], corners[:2, rest])
        high = np.minimum(corners[2:, chosen, None], corners[2:, rest])
        width, height = np.maximum(f32(0), high - low + f32(offset))
        inter = width * height
        # Two boxes without area have an IoU of 0 / 0, which compares as false
        # with any threshold, as in mmcv.
        with np.errstate(divide='ignore', invalid='ignore'):
            iou = inter / (area[chosen] + area[rest] - inter)
        if method == 2:
            weight = np.exp(-(iou * iou) / spread)
        else:
            weight = np.where(iou >= threshold,
                              f32(0) if method == 0 else f32(1) - iou, f32(1))
        score[rest] *= weight
        first += 1
        end = first + _drop(rest, score[rest] < f32(min_score))

    kept = torch.from_numpy(order[:end])
    dets[:end, :4] = boxes[kept]
    dets[:end, 4] = torch.from_numpy(score)[kept]
    return kept


def _drop(order: np.ndarray, drop: np.ndarray) -> int:
    """Fill each gap in ``order``, in place, with the last element that stays.

    Returns the number of elements that stay; they are at the front.
    """
    end = len(order)
    for gap in np.flatnonzero(drop):
        if gap >= end:
            break
        end -= 1
        while end > gap and drop[end]:
            end -= 1
        order[gap] = order[end]
    return end


# ------------------------------------------------------------------ RoI Align


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor,
                      argmax_y: Tensor, argmax_x: Tensor, aligned_height: int,
                      aligned_width: int, spatial_scale: float,
                      sampling_ratio: int, pool_mode: int,
                      aligned: bool) -> None:
    """Pool each region of ``input`` (N, C, H, W) to a fixed grid.

    Args:
        rois: (R, 5) as image index, x1, y1, x2, y2 in input pixels.
        output: (R, C, aligned_height, aligned_width), filled in place.
        argmax_y: Like ``output`` if ``pool_mode`` is 0, else empty. Filled
            with the row of the largest sample in the grid of its bin, for
            :func:`roi_align_backward` only (mmcv fills in the coordinate).
        argmax_x: The same for the column.
        sampling_ratio: Samples per bin and direction; 0 takes one for each
            input pixel that the bin spans.
        pool_mode: 0 takes the largest sample of each bin, 1 their mean. A bin
            without samples (a region without size) is 0.
    """
    input, rois = _wide(input, rois)
    size = (aligned_height, aligned_width)
    if pool_mode == 1:
        output.copy_(
            torch.ops.torchvision.roi_align(input, rois, spatial_scale, *size,
                                            sampling_ratio, aligned))
        return
    for index, (gh, gw) in _sample_grids(rois, size, spatial_scale,
                                         sampling_ratio, aligned):
        # In a grid that is finer by (gh, gw), with one sample in the middle
        # of each bin, the samples are those of the coarse bins, one by one.
        samples = torch.ops.torchvision.roi_align(
            input, rois[index], spatial_scale, size[0] * gh, size[1] * gw, 1,
            aligned)
        samples = samples.unflatten(3, (-1, gw)).unflatten(2, (-1, gh))
        samples = samples.transpose(3, 4).flatten(4)  # (r, C, ph, pw, gh * gw)
        value, winner = samples.max(dim=-1)
        output[index] = value.to(output.dtype)
        # Row and column are kept apart, since half holds integers only up to
        # 2048.
        argmax_y[index] = (winner // gw).to(argmax_y.dtype)
        argmax_x[index] = (winner % gw).to(argmax_x.dtype)


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor,
                       argmax_x: Tensor, grad_input: Tensor,
                       aligned_height: int, aligned_width: int,
                       spatial_scale: float, sampling_ratio: int,
                       pool_mode: int, aligned: bool) -> None:
    """Fill ``grad_input`` (N, C, H, W) in place.

    The other arguments are those of :func:`roi_align_forward`.

    Raises:
        RuntimeError: On CUDA with torch.use_deterministic_algorithms(True),
            which torchvision's kernel refuses.
    """
    grad_output, rois = _wide(grad_output, rois)
    size = (aligned_height, aligned_width)

    def pull_back(grad: Tensor, rois: Tensor, size: tuple[int, int],
                  ratio: int) -> Tensor:
        return torch.ops.torchvision._roi_align_backward(
            grad, rois, spatial_scale, *size, *grad_input.shape, ratio,
            aligned)

    if pool_mode == 1:
        grad_input.copy_(pull_back(grad_output, rois, size, sampling_ratio))
        return
    total = grad_output.new_zeros(grad_input.shape)
    for index, (gh, gw) in _sample_grids(rois, size, spatial_scale,
                                         sampling_ratio, aligned):
        winner = argmax_y[index].long() * gw + argmax_x[index].long()
        grad = grad_output[index]
        fine = grad.new_zeros(*grad.shape, gh * gw)
        fine.scatter_(-1, winner.unsqueeze(-1), grad.unsqueeze(-1))
        fine = fine.unflatten(-1, (gh, gw)).transpose(3, 4)
        fine = fine.flatten(4, 5).flatten(2, 3)  # (r, C, ph * gh, pw * gw)
        total += pull_back(fine.contiguous(), rois[index],
                           (size[0] * gh, size[1] * gw), 1)
    grad_input.copy_(total)


def _sample_grids(rois: Tensor, size: tuple[int, int], spatial_scale: float,
                  sampling_ratio: int,
                  aligned: bool) -> list[tuple[Tensor, tuple[int, int]]]:
    """Groups of regions with equal samples per bin: (indices, (gh, gw)).

    Regions without samples are left out.
    """
    if sampling_ratio > 0:
        indices = torch.arange(len(rois), device=rois.device)
        return [(indices, (sampling_ratio, sampling_ratio))]
    # The order of operations is that of the kernels: a rounding error before
    # ceil() would change the number of samples by one.
    corners = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    extent = corners[:, 2:] - corners[:, :2]
    if not aligned:
        extent = extent.clamp(min=1)
    width, height = (extent / extent.new_tensor(size[::-1])).ceil().long().T
    grids = torch.stack((height, width), dim=1)
    return [((grids == grid).all(dim=1).nonzero().flatten(),
             tuple(grid.tolist())) for grid in grids.unique(dim=0)
            if grid.min() > 0]


# ----------------------------------------------------- deformable convolution


def _geometry(dH: int, dW: int, padH: int, padW: int, dilationH: int,
              dilationW: int, group: int,
              deformable_group: int) -> tuple[int, ...]:
    """The arguments that mmcv passes by name, in torchvision's order."""
    return (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)


def _no_mask_no_bias(input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Placeholders that torchvision takes if there is no mask and no bias."""
    return input.new_zeros(len(input), 1), input.new_zeros(len(weight))


def _without_nan(offset: Tensor) -> Tensor:
    """Offsets with nan replaced by a large number.

    The sample then lies outside the map and is 0, as in mmcv. torchvision's
    kernel would read an undefined address for nan, and a diverging network
    would crash the process.
    """
    far = 1e30  # not infinity, which torchvision's gradient multiplies by 0
    return _wide(offset)[0].nan_to_num(nan=far, posinf=far, neginf=-far)


def deform_conv_forward(input: Tensor, weight: Tensor, offset: Tensor,
                        output: Tensor, columns: Tensor, ones: Tensor, *,
                        kW: int, kH: int, im2col_step: int,
                        **geometry: int) -> None:
    """Deformable convolution, ``output`` (N, C_out, H', W') filled in place.

    Args:
        input: (N, C_in, H, W).
        weight: (C_out, C_in / group, kH, kW).
        offset: (N, deformable_group * kH * kW * 2, H', W'), in pixels, y
            before x.
        geometry: dH, dW, padH, padW, dilationH, dilationW, group,
            deformable_group.

    Source:
        Dai et al., ICCV 2017 (arXiv 1703.06211).
    """
    input, weight, offset = _wide(input, weight, _without_nan(offset))
    output.copy_(
        torch.ops.torchvision.deform_conv2d(input, weight, offset,
                                            *_no_mask_no_bias(input, weight),
                                            *_geometry(**geometry), False))


def deform_conv_backward_input(input: Tensor, offset: Tensor,
                               grad_output: Tensor, grad_input: Tensor,
                               grad_offset: Tensor, weight: Tensor,
                               columns: Tensor, *, kW: int, kH: int,
                               im2col_step: int, **geometry: int) -> None:
    """Fill ``grad_input`` and ``grad_offset`` in place.

    torchvision computes all gradients at once; mmcv asks for them in two
    calls. Computing everything twice would double the time, so the gradient of
    the weight is kept as an attribute of ``columns``, the scratch tensor that
    both calls receive. The attribute also holds ``grad_output`` and its
    version, by which the second call checks that it belongs to the same
    backward pass.
    """
    wide = _wide(grad_output, input, weight, _without_nan(offset))
    to_input, to_weight, to_offset, _, _ = \
        torch.ops.torchvision._deform_conv2d_backward(
            *wide, *_no_mask_no_bias(wide[1], weight), *_geometry(**geometry),
            False)
    grad_input.copy_(to_input)
    grad_offset.copy_(to_offset)
    columns.__dict__['kept'] = grad_output, grad_output._version, to_weight


def deform_conv_backward_parameters(input: Tensor, offset: Tensor,
                                    grad_output: Tensor, grad_weight: Tensor,
                                    columns: Tensor, ones: Tensor, *, kW: int,
                                    kH: int, scale: float, im2col_step: int,
                                    **geometry: int) -> None:
    """Add ``scale`` times the weight's gradient to ``grad_weight`` in place.

    The gradient is the one that :func:`deform_conv_backward_input` has kept,
    if it ran just before.
    """
    kept_for, version, to_weight = columns.__dict__.pop(
        'kept', (None, 0, None))
    if kept_for is not grad_output or version != grad_output._version:
        # The gradient does not depend on the weight's values, only on its
        # shape, which grad_weight has too.
        wide = _wide(grad_output, input, grad_weight, _without_nan(offset))
        to_weight = torch.ops.torchvision._deform_conv2d_backward(
            *wide, *_no_mask_no_bias(wide[1], grad_weight),
            *_geometry(**geometry), False)[1]
    grad_weight += (scale * to_weight).to(grad_weight.dtype)


def modulated_deform_conv_forward(
        input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor,
        offset: Tensor, mask: Tensor, output: Tensor, columns: Tensor, *,
        kernel_h: int, kernel_w: int, with_bias: bool,
        **geometry: int) -> None:
    """Modulated deformable convolution, ``output`` filled in place.

    Args:
        bias: (C_out,), or empty if ``with_bias`` is False.
        mask: (N, deformable_group * kH * kW, H', W'), the factor of each
            sample.
        geometry: stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w,
            group, deformable_group.

    The other arguments are those of :func:`deform_conv_forward`.

    Raises:
        NotImplementedError: There are not as many offsets as outputs.

    Source:
        Zhu et al., CVPR 2019 (arXiv 1811.11168).
    """
    if offset.shape[-2:] != output.shape[-2:]:
        own, other = ('x'.join(map(str, tensor.shape[-2:]))
                      for tensor in (offset, output))
        raise NotImplementedError(
            f'The offsets of a deformable convolution lie on {own} positions '
            f"and its outputs on {other}, as in mmdet's DyHead; torchvision "
            f'{torchvision.__version__} refuses that. {_INSTALL}')
    input, weight, offset, mask, bias = _wide(
        input, weight, _without_nan(offset), mask, bias)
    if not with_bias:
        bias = input.new_zeros(len(weight))
    output.copy_(
        torch.ops.torchvision.deform_conv2d(
            input, weight, offset, mask, bias,
            *_modulated_geometry(**geometry), True))


def modulated_deform_conv_backward(
        input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor,
        offset: Tensor, mask: Tensor, columns: Tensor, grad_input: Tensor,
        grad_weight: Tensor, grad_bias: Tensor, grad_offset: Tensor,
        grad_mask: Tensor, grad_output: Tensor, *, kernel_h: int,
        kernel_w: int, with_bias: bool, **geometry: int) -> None:
    """Fill the gradients in place; ``grad_bias`` only if ``with_bias``."""
    wide = _wide(grad_output, input, weight, _without_nan(offset), mask, bias)
    if not with_bias:
        wide[-1] = wide[1].new_zeros(len(weight))
    to_input, to_weight, to_offset, to_mask, to_bias = \
        torch.ops.torchvision._deform_conv2d_backward(
            *wide, *_modulated_geometry(**geometry), True)
    grad_input.copy_(to_input)
    grad_weight.copy_(to_weight)
    grad_offset.copy_(to_offset)
    grad_mask.copy_(to_mask)
    if with_bias:
        grad_bias.copy_(to_bias)


def _modulated_geometry(stride_h: int, stride_w: int, pad_h: int, pad_w: int,
                        dilation_h: int, dilation_w: int, group: int,
                        deformable_group: int) -> tuple[int, ...]:
    """:func:`_geometry` under the names of mmcv's modulated functions."""
    return _geometry(stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w,
                     group, deformable_group)


# --------------------------------------------------------- sigmoid focal loss


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor,
                               output: Tensor, gamma: float,
                               alpha: float) -> None:
    """Focal loss of each logit, ``output`` (N, C) filled in place.

    This is exact for logits of any size, unlike mmcv's kernel, which computes
    log(1 - sigmoid(x)) and is bounded by the smallest float.

    Args:
        input: (N, C) logits.
        target: (N,) class indices; C means background.
        weight: (C,) factor of a sample by its target, or empty for none.
            Background has factor 1; mmcv reads past the end for it.

    Source:
        Lin et al., ICCV 2017 (arXiv 1708.02002), equation 5.
    """
    logit, factor, _ = _towards_target(input, target, weight, alpha)
    output.copy_(-factor * torch.sigmoid(-logit)**gamma * F.logsigmoid(logit))


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor,
                                grad_input: Tensor, gamma: float,
                                alpha: float) -> None:
    """Fill ``grad_input`` (N, C) in place with the derivative of the loss."""
    logit, factor, sign = _towards_target(input, target, weight, alpha)
    right = torch.sigmoid(logit)
    wrong = torch.sigmoid(-logit)
    grad_input.copy_(sign * factor * wrong**gamma *
                     (gamma * right * F.logsigmoid(logit) - wrong))


def _towards_target(input: Tensor, target: Tensor, weight: Tensor,
                    alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logit of the correct decision, loss factor and sign, each (N, C)."""
    input, weight = _wide(input, weight)
    classes = torch.arange(input.size(1), device=input.device)
    positive = target[:, None] == classes
    sign = positive.to(input.dtype) * 2 - 1
    factor = torch.where(positive, alpha, 1 - alpha).to(input.dtype)
    if weight.numel() > 0:
        factor = factor * F.pad(weight, (0, 1), value=1.0)[target][:, None]
    return sign * input, factor, sign
