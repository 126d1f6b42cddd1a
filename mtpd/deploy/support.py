"""Which detectors can be exported, and what to say of the others."""
from typing import Any, Iterator

from mmcv.ops import RoIAlign
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.dense_heads import GFLHead, RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors import (BaseDetector, SingleStageDetector,
                                    TwoStageDetector)
from mmdet.models.roi_heads import BBoxHead, FCNMaskHead, StandardRoIHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules.coders import (DeltaXYWHBBoxCoder,
                                              DistancePointBBoxCoder,
                                              TBLRBBoxCoder)
from mmengine.config import ConfigDict

from mtpd.predict.inputs import UnusableInput

_CODERS = (DeltaXYWHBBoxCoder, DistancePointBBoxCoder, TBLRBBoxCoder)
_NMS_KEYS = {'type', 'iou_threshold', 'iou_thr', 'class_agnostic',
             'split_thr'}
_FOR_ONE_SIZE = {
    'WindowMSA': "Swin's windows are counted in Python, so that a trace "
                 'holds only for images of the traced size'}


class NotExportable(UnusableInput):
    """A detector has a part that the file cannot hold."""


def check_support(detector: BaseDetector) -> None:
    """Refuse a detector whose boxes are not made as this room makes them.

    A class may override any step of mmdet's, so that a kind is known by whose
    methods run, and not by its name.

    Raises:
        NotExportable: With the part and the reason.
    """
    reason = next(_reasons(detector), None)
    if reason is not None:
        raise NotExportable(
            f'{type(detector).__name__} cannot be exported: {reason}. What '
            'can be exported are detectors that find boxes as RetinaNet, '
            'FCOS, ATSS, GFL, RTMDet, Faster R-CNN and Mask R-CNN do.')


def _reasons(detector: BaseDetector) -> Iterator[str]:
    if type(detector.data_preprocessor) is not DetDataPreprocessor:
        yield (f'its data_preprocessor is {_name(detector.data_preprocessor)},'
               ' not DetDataPreprocessor')
    if isinstance(getattr(detector, 'bbox_head', None), RPNHead):
        yield ('it is a region proposal network by itself, whose boxes are of '
               'no class')
    stages = _same(detector, SingleStageDetector, 'predict', 'extract_feat'), \
        _same(detector, TwoStageDetector, 'predict', 'extract_feat')
    if not any(stages):
        yield 'it predicts neither in one stage nor in two, as those do'
        return
    yield from _layers(detector)
    if stages[0]:
        yield from _dense(detector.bbox_head, 'bbox_head')
    else:
        yield from _dense(detector.rpn_head, 'rpn_head')
        yield from _second_stage(detector.roi_head)


def _layers(detector: BaseDetector) -> Iterator[str]:
    for name, module in detector.named_modules():
        if type(module).__module__.startswith('mmcv.ops') \
                and not isinstance(module, RoIAlign):
            yield (f"{name} is {_name(module)}, an operator of mmcv's own, "
                   'which the file cannot hold')
        if _name(module) in _FOR_ONE_SIZE:
            yield f'{name} is {_name(module)}: {_FOR_ONE_SIZE[_name(module)]}'


def _dense(head: Any, field: str) -> Iterator[str]:
    """Reasons against a head that predicts at every position."""
    base = RPNHead if isinstance(head, RPNHead) else BaseDenseHead
    decodes = [_same(head, kind, '_predict_by_feat_single')
               for kind in (base, GFLHead)]
    if not any(decodes) or not _same(head, base, '_bbox_post_process') \
            or not _same(head, BaseDenseHead, 'predict', 'predict_by_feat'):
        yield f'its {field} {_name(head)} decodes boxes in a way of its own'
        return
    if type(head.bbox_coder) not in _CODERS:
        yield (f'the bbox_coder of its {field} is {_name(head.bbox_coder)}, '
               f'not one of {", ".join(one.__name__ for one in _CODERS)}')
    if getattr(getattr(head, 'loss_cls', None), 'custom_cls_channels', False):
        yield f'the loss_cls of its {field} has an activation of its own'
    yield from _test_cfg(head.test_cfg, field)
    yield from _slices(head.test_cfg, field)
    if field == 'bbox_head' and head.test_cfg.get('min_bbox_size', -1) > 0:
        yield (f'test_cfg.min_bbox_size is {head.test_cfg.min_bbox_size}, '
               'counted in pixels of the original image, which the file does '
               'not see. Set it to 0')


def _slices(test_cfg: ConfigDict, field: str) -> Iterator[str]:
    """Reasons against numbers that mmdet slices its boxes by."""
    most = test_cfg.get('max_per_img')
    if most is not None and most < 1:
        kept = 'no box' if most == 0 else f'all boxes but the last {-most}'
        yield (f'the test_cfg of its {field} has max_per_img={most}, with '
               f'which mmdet keeps {kept}. Set it to the number of boxes to '
               'keep, such as 1000')
    # An RPN, and only that, takes 0 for all.
    if test_cfg.get('nms_pre') == 0 and field == 'bbox_head':
        yield (f'the test_cfg of its {field} has nms_pre=0, with which mmdet '
               'keeps no box. Set it to the number of boxes of a level to '
               'keep, such as 1000')


def _second_stage(head: Any) -> Iterator[str]:
    if not _same(head, StandardRoIHead, 'predict', 'predict_bbox',
                 'predict_mask', '_bbox_forward', '_mask_forward'):
        yield (f'its roi_head {_name(head)} predicts in another way than '
               'StandardRoIHead')
        return
    if head.with_shared_head:
        yield 'its roi_head has a shared_head'
    yield from _extractor(head.bbox_roi_extractor, 'bbox_roi_extractor')
    boxes = head.bbox_head
    if not _same(boxes, BBoxHead, 'predict_by_feat',
                 '_predict_by_feat_single') or boxes.custom_cls_channels \
            or not boxes.with_reg:
        yield f'its bbox_head {_name(boxes)} decodes boxes in a way of its own'
    elif type(boxes.bbox_coder) is not DeltaXYWHBBoxCoder:
        yield (f'the bbox_coder of its bbox_head is {_name(boxes.bbox_coder)},'
               ' not DeltaXYWHBBoxCoder')
    yield from _test_cfg(head.test_cfg, 'roi_head')
    if head.with_mask:
        level = head.test_cfg.get('mask_thr_binary', .5)
        if level < 0:
            yield (f'test_cfg.rcnn.mask_thr_binary is {level}, with which '
                   'mmdet returns masks of many values. Set it to 0.5')
        yield from _extractor(head.mask_roi_extractor, 'mask_roi_extractor')
        if not _same(head.mask_head, FCNMaskHead, 'predict_by_feat',
                     '_predict_by_feat_single'):
            yield (f'its mask_head {_name(head.mask_head)} makes masks in a '
                   'way of its own')


def _extractor(extractor: Any, field: str) -> Iterator[str]:
    if type(extractor) is not SingleRoIExtractor or any(
            type(layer) is not RoIAlign or layer.pool_mode != 'avg'
            for layer in extractor.roi_layers):
        yield (f'its {field} is not a SingleRoIExtractor with '
               "RoIAlign(pool_mode='avg')")


def _test_cfg(test_cfg: ConfigDict, field: str) -> Iterator[str]:
    nms = test_cfg.get('nms')
    if not nms or nms.get('type', 'nms') != 'nms' or set(nms) - _NMS_KEYS:
        yield (f"the test_cfg of its {field} has nms={dict(nms or {})}; "
               "expected dict(type='nms', iou_threshold=...)")


def _same(part: Any, kind: type, *methods: str) -> bool:
    """Whether a part's methods are those of a class."""
    return all(getattr(type(part), name, None) is getattr(kind, name)
               for name in methods)


def _name(part: Any) -> str:
    return type(part).__name__
