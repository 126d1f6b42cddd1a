"""Each parameter of the student is optimised as plain mmdet optimises it."""
import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule, MMDistributedDataParallel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn

from mtpd.distill import FeatureDistiller

ADAMW = dict(type='OptimWrapper', optimizer=dict(
    type='AdamW', lr=0.002, weight_decay=0.05))
SGD = dict(type='OptimWrapper', optimizer=dict(
    type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4))

PARAMWISE = dict(
    norm_decay_mult=0., bias_lr_mult=2., bias_decay_mult=0.5,
    # The last two name adapters and wrapper, which are none of the user's.
    custom_keys={'backbone': dict(lr_mult=0.1), 'backbone.layer3': dict(
        decay_mult=0.), 'levels': dict(lr_mult=7.),
        'student': dict(lr_mult=9.)})


@MODELS.register_module()
class ThinConvNeXt(BaseModule):
    """Modules named as mmpretrain's ConvNeXt names them: four stages of two
    blocks, strides 4 to 32."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, 4, 8, 8, 16]
        self.downsample_layers = nn.ModuleList(
            nn.Conv2d(a, b, k, stride=k)
            for a, b, k in zip(widths, widths[1:], (4, 2, 2, 2)))
        self.stages = nn.ModuleList(nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 1))
            for c in widths[1:])

    def forward(self, x):
        maps = []
        for down, stage in zip(self.downsample_layers, self.stages):
            x = stage(down(x))
            maps.append(x)
        return tuple(maps)


@pytest.fixture
def distiller(retinanet, swin_mask_rcnn, checkpoint_of):
    def build(student, **changes) -> FeatureDistiller:
        teachers = [dict(name=name, model=model,
                         checkpoint=checkpoint_of(model, 1, name))
                    for name, model in (('swin', swin_mask_rcnn),
                                        ('retina', retinanet))]
        return MODELS.build({
            'type': 'FeatureDistiller', 'student': copy.deepcopy(student),
            'teachers': teachers[:1], 'distill': dict(type='MGDLoss'),
            **changes})
    return build


@pytest.fixture
def convnext(retinanet):
    model = copy.deepcopy(retinanet)
    model.backbone = dict(type='ThinConvNeXt')
    model.neck.in_channels = [4, 8, 8, 16]
    return model


@pytest.fixture
def deformable(retinanet):
    """With deformable convolutions."""
    model = copy.deepcopy(retinanet)
    model.backbone.update(
        depth=50, base_channels=4, stage_with_dcn=(False, False, True, True),
        dcn=dict(type='DCN', deform_groups=1, fallback_on_stride=False))
    model.neck.in_channels = [16, 32, 64, 128]
    return model


def optimised(model, cfg, **changes) -> OptimWrapper:
    return build_optim_wrapper(model, {
        **cfg, 'constructor': 'DistillOptimWrapperConstructor', **changes})


def options(wrapper: OptimWrapper, model: nn.Module) -> dict[str, dict]:
    """Name of each parameter -> its group, without the parameters."""
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[str, dict] = {}
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            name = names.get(id(parameter))
            assert name not in found, 'twice'
            if name is not None:
                found[name] = {k: v for k, v in group.items()
                               if k not in ('params', 'param_names')}
    return found


@pytest.mark.parametrize('student, cfg, changes', [
    ('caffe_fcos', SGD, {}),
    ('caffe_fcos', SGD, dict(paramwise_cfg=PARAMWISE)),
    ('caffe_fcos', ADAMW, dict(paramwise_cfg=dict(flat_decay_mult=0.))),
    ('deformable', SGD, dict(paramwise_cfg=dict(
        dcn_offset_lr_mult=0.1, bias_lr_mult=2., bypass_duplicate=True))),
    ('convnext', ADAMW, dict(
        student_constructor='LearningRateDecayOptimizerConstructor',
        paramwise_cfg=dict(decay_rate=0.5, decay_type='layer_wise',
                           num_layers=6))),
    ('convnext', ADAMW, dict(
        student_constructor='LearningRateDecayOptimizerConstructor',
        paramwise_cfg=dict(decay_rate=0.7, decay_type='stage_wise',
                           num_layers=6)))])
def test_the_students_groups_are_plain_mmdets(student, cfg, changes,
                                              distiller, request):
    model = request.getfixturevalue(student)
    plain = MODELS.build(copy.deepcopy(model))
    ours = distiller(model)
    if student == 'deformable':  # a module that stands twice in the tree
        for detector in (plain, ours.student):
            detector.bbox_head.again = detector.bbox_head.retina_cls
    own = changes.get('student_constructor')
    reference = build_optim_wrapper(plain, {**cfg, **{
        ('constructor' if k == 'student_constructor' else k): v
        for k, v in changes.items()}})
    wrapper = optimised(ours, cfg, **changes)
    expected = options(reference, plain)
    assert options(wrapper, ours.student) == expected
    assert wrapper.get_lr()['lr'][:-1] == reference.get_lr()['lr']
    assert wrapper.get_lr().get('base_lr') == reference.get_lr().get('base_lr')
    # Everything else is the last group, with the optimizer's own settings.
    *_, last = wrapper.optimizer.param_groups
    parts = list(ours.training_parts().parameters())
    assert len(parts) > 4 and list(map(id, last['params'])) \
        == list(map(id, parts))
    assert {k: last[k] for k in wrapper.defaults} == wrapper.defaults
    rates = {group['lr'] for group in expected.values()}
    assert len(rates) == 1 if 'paramwise_cfg' not in changes \
        or cfg is ADAMW and own is None else len(rates) > 1


def test_custom_keys_by_hand(distiller, caffe_fcos):
    model = distiller(caffe_fcos)
    found = options(optimised(model, SGD, paramwise_cfg=PARAMWISE), model)
    for name, lr, decay in (
            ('student.backbone.layer1.0.conv1.weight', 0.1, 1),
            ('student.backbone.layer3.0.conv1.weight', 1, 0),
            ('student.neck.lateral_convs.0.conv.weight', 1, 1),
            ('student.neck.lateral_convs.0.conv.bias', 2, 0.5),
            ('student.bbox_head.cls_convs.0.gn.weight', 1, 0),
            ('student.bbox_head.cls_convs.0.gn.bias', 1, 0),
            ('guidances.0.adapter.levels.8.project.bias', 1, 1),
            ('guidances.0.mechanism.generators.8.0.bias', 1, 1)):
        assert found[name]['lr'] == pytest.approx(0.02 * lr), name
        assert found[name]['weight_decay'] == pytest.approx(1e-4 * decay), name


def test_layer_decay_by_hand(distiller, convnext):
    """0.5 to the power of the layers above; the head at the full rate."""
    model = distiller(convnext)
    found = options(optimised(
        model, ADAMW,
        student_constructor='LearningRateDecayOptimizerConstructor',
        paramwise_cfg=dict(decay_rate=0.5, decay_type='layer_wise',
                           num_layers=6)), model)
    for name, power, decay in (
            ('student.backbone.downsample_layers.0.weight', 7, 0.05),
            ('student.backbone.stages.0.0.weight', 6, 0.05),
            ('student.backbone.stages.3.1.bias', 1, 0.),
            ('student.bbox_head.retina_cls.weight', 0, 0.05),
            ('guidances.0.adapter.levels.8.project.weight', 0, 0.05)):
        assert found[name]['lr'] == pytest.approx(0.002 / 2 ** power), name
        assert found[name]['weight_decay'] == decay, name


@pytest.mark.parametrize('paramwise', [None, PARAMWISE])
@pytest.mark.parametrize('teachers', [1, 2])
def test_every_parameter_once(distiller, retinanet, swin_mask_rcnn,
                              checkpoint_of, teachers, paramwise):
    model = distiller(retinanet, adapter='conv', teachers=[
        dict(name=name, model=kind, checkpoint=checkpoint_of(kind, 1, name))
        for name, kind in (('swin', swin_mask_rcnn),
                           ('retina', retinanet))][:teachers])
    copied = copy.deepcopy(model)  # as EMA holds one
    for part in (model, copied):
        wrapper = optimised(part, SGD, paramwise_cfg=paramwise)
        ids = [id(p) for g in wrapper.optimizer.param_groups
               for p in g['params']]
        assert len(ids) == len(set(ids))
        assert set(ids) == {id(p) for p in part.parameters()}
        # 2 tensors of each adapter and 4 of each generator, at 4 or 5 levels.
        assert len(wrapper.optimizer.param_groups[-1]['params']) \
            == 6 * (4 if teachers == 1 else 9)


@pytest.mark.parametrize('changes', [
    dict(distill=dict(type='FeatureL2Loss', loss_weight=0)),
    dict(distill=dict(type='AttentionTransferLoss'))])
def test_where_nothing_else_is_trained_the_groups_are_all(distiller, retinanet,
                                                          changes):
    model = distiller(retinanet, **changes)
    for paramwise in (None, PARAMWISE):
        wrapper = optimised(model, SGD, paramwise_cfg=paramwise)
        plain = build_optim_wrapper(model.student,
                                    dict(SGD, paramwise_cfg=paramwise))
        groups, expected = (w.optimizer.param_groups for w in (wrapper, plain))
        assert len(groups) == len(expected)
        for one, other in zip(groups, expected):
            assert list(map(id, one.pop('params'))) \
                == list(map(id, other.pop('params')))
            assert one == other
        assert (wrapper.base_param_settings is None) == (paramwise is None)


def test_under_ddp_it_is_the_same(distiller, retinanet):
    model = distiller(retinanet)
    alone = optimised(model, SGD, paramwise_cfg=PARAMWISE)
    torch.distributed.init_process_group(
        'gloo', store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapper = optimised(MMDistributedDataParallel(model), SGD,
                            paramwise_cfg=PARAMWISE)
    finally:
        torch.distributed.destroy_process_group()
    assert options(wrapper, model) == options(alone, model)
    assert len(options(alone, model)) == len(list(model.parameters()))


def test_the_config_is_left_as_it_was(distiller, retinanet):
    cfg = dict(SGD, student_constructor='DefaultOptimWrapperConstructor',
               clip_grad=dict(max_norm=1.), paramwise_cfg=PARAMWISE)
    before = copy.deepcopy(cfg)
    wrapper = optimised(distiller(retinanet), cfg)
    assert cfg == before
    assert wrapper.clip_grad_kwargs == dict(max_norm=1.)
