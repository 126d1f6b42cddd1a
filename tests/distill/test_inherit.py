"""What a student takes over from a teacher."""
import pytest
import torch
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS

from mtpd.distill.inherit import inherit


def weights(**shapes) -> dict:
    """Distinct tensors by key; a double underscore is a dot."""
    return {key.replace('__', '.'): torch.rand(shape)
            for key, shape in shapes.items()}


def test_matching_tensors_are_taken_and_the_rest_is_listed():
    student = weights(neck__a=2, bbox_head__cls=3, bbox_head__reg=4,
                      backbone__stem=1, rpn_head__x=1)
    teacher = weights(neck__a=2, bbox_head__cls=5, bbox_head__reg=4,
                      backbone__stem=1, neck__b=6)
    result = inherit(student, teacher, ('neck', 'head'))
    assert result.taken == {'neck.a': 'neck.a',
                            'bbox_head.reg': 'bbox_head.reg'}
    assert result.left == {
        'bbox_head.cls': '(3,) here, (5,) in the teacher',
        'rpn_head.x': 'the teacher has no rpn_head.x'}
    assert result.weights.keys() == student.keys()
    for key, value in result.weights.items():
        source = teacher if key in result.taken else student
        assert torch.equal(value, source[key])
    assert result.describe() == (
        'neck: 1 of 1 tensors taken\nhead: 1 of 3 tensors taken, not '
        'bbox_head.cls: (3,) here, (5,) in the teacher; rpn_head.x: the '
        'teacher has no rpn_head.x')


def test_taken_tensors_are_copies():
    student, teacher = weights(neck__a=2), weights(neck__a=2)
    taken = inherit(student, teacher, ('neck',)).weights['neck.a']
    before = taken.clone()
    teacher['neck.a'] += 1
    assert torch.equal(taken, before)


def test_a_cascades_first_stage_fills_a_single_head():
    student = weights(roi_head__bbox_head__fc_cls__bias=4,
                      roi_head__bbox_head__fc_reg__weight=(12, 2),
                      roi_head__bbox_head__fc_reg__bias=12,
                      roi_head__mask_head__convs__0__weight=(2, 2),
                      roi_head__mask_head__conv_res__weight=3)
    teacher = weights(**{
        f'roi_head__{head}__{stage}__{name}': shape for stage in (0, 1)
        for head, name, shape in (
            ('bbox_head', 'fc_cls__bias', 4),
            ('bbox_head', 'fc_reg__weight', (4, 2)),  # one for all classes
            ('bbox_head', 'fc_reg__bias', 4),
            ('mask_head', 'convs__0__weight', (2, 2)))})
    result = inherit(student, teacher, ('head',))
    assert result.taken['roi_head.mask_head.convs.0.weight'] \
        == 'roi_head.mask_head.0.convs.0.weight'
    assert list(result.left) == ['roi_head.mask_head.conv_res.weight']
    first = 'roi_head.bbox_head.0.'
    assert torch.equal(result.weights['roi_head.bbox_head.fc_cls.bias'],
                       teacher[first + 'fc_cls.bias'])
    for name in ('fc_reg.weight', 'fc_reg.bias'):
        taken = result.weights['roi_head.bbox_head.' + name]
        for label in range(3):
            assert torch.equal(taken[4 * label:4 * label + 4],
                               teacher[first + name])


def test_nothing_in_common_and_unknown_parts_are_errors():
    with pytest.raises(ValueError, match='no tensor of the first teacher'):
        inherit(weights(neck__a=2), weights(neck__a=3), ('neck',))
    with pytest.raises(ValueError, match=r"\['stem'\]; known are backbone"):
        inherit(weights(neck__a=2), weights(neck__a=2), ('stem',))


def backbone(cls, **settings) -> dict:
    module = MODELS.build(dict(type=cls, **settings)) \
        if isinstance(cls, str) else cls(**settings)
    return {f'backbone.{k}': torch.rand(v.shape) if v.is_floating_point()
            else v for k, v in module.state_dict().items()}


def test_every_second_block_of_resnet_101_for_resnet_50():
    student = backbone(ResNet, depth=50, base_channels=8)
    teacher = backbone(ResNet, depth=101, base_channels=8)
    result = inherit(student, teacher, ('alternate_blocks',))
    assert result.left == {}
    # Stage 3 has 6 blocks of 23, the others are as deep as the student's.
    for own, other in ((0, 0), (1, 2), (2, 4), (5, 10)):
        key = 'backbone.layer3.{}.conv2.weight'
        assert torch.equal(result.weights[key.format(own)],
                           teacher[key.format(other)])
    for stage in ('layer1.2', 'layer2.3', 'layer4.1'):
        key = f'backbone.{stage}.conv1.weight'
        assert torch.equal(result.weights[key], teacher[key])
    assert torch.equal(result.weights['backbone.conv1.weight'],
                       teacher['backbone.conv1.weight'])


def test_every_second_block_whatever_the_lists_are_called():
    """ConvNeXt's stages.2.7 below a wrapper's own name."""
    def deep(*depths) -> dict:
        return {f'backbone.model.stages.{stage}.{block}.conv.weight':
                torch.rand(2) for stage, depth in enumerate(depths)
                for block in range(depth)}

    student, teacher = deep(3, 9), deep(3, 27)
    result = inherit(student, teacher, ('alternate_blocks',))
    for stage, own, other in ((0, 2, 2), (1, 0, 0), (1, 8, 16)):
        name = 'backbone.model.stages.{}.{}.conv.weight'
        assert torch.equal(result.weights[name.format(stage, own)],
                           teacher[name.format(stage, other)])
    with pytest.raises(ValueError, match='no stage .* is twice as deep'):
        inherit(student, deep(3, 9), ('alternate_blocks',))


def test_every_second_block_of_swin_s_for_swin_t():
    small = dict(embed_dims=8, num_heads=(1, 2, 2, 2), window_size=4)
    student = backbone('SwinTransformer', depths=(2, 2, 6, 2), **small)
    teacher = backbone('SwinTransformer', depths=(2, 2, 18, 2), **small)
    result = inherit(student, teacher, ('alternate_blocks',))
    assert result.left == {}
    assert result.taken['backbone.stages.2.blocks.5.ffn.layers.1.weight'] \
        == 'backbone.stages.2.blocks.10.ffn.layers.1.weight'
    assert result.taken['backbone.stages.0.blocks.1.norm1.weight'] \
        == 'backbone.stages.0.blocks.1.norm1.weight'
