import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs


def both(student, teacher):
    return MODELS.build(dict(
        type='DistillDataPreprocessor',
        student=MODELS.build(student.data_preprocessor),
        teachers=dict(other=teacher.data_preprocessor)))


def test_each_side_normalises_as_its_own_preprocessor(retinanet, caffe_fcos):
    ours = both(retinanet, caffe_fcos)
    data = demo_mm_inputs(2, [(3, 60, 100), (3, 96, 50)], num_classes=5)
    raw = [picture.clone() for picture in data['inputs']]
    batch = ours(data, True)

    # By hand, from the raw pictures: student RGB over ImageNet's std; teacher
    # caffe style, BGR, means of its own and no std.
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    caffe = torch.tensor([102.9801, 115.9465, 122.7717]).view(3, 1, 1)
    # Divisors 32 and 64: both grids are multiples of 64.
    assert batch['inputs'].shape == batch['teacher_inputs']['other'].shape \
        == (2, 3, 128, 128)
    for i, picture in enumerate(raw):
        height, width = picture.shape[-2:]
        for made, value in (
                (batch['inputs'], (picture[[2, 1, 0]].float() - mean) / std),
                (batch['teacher_inputs']['other'], picture.float() - caffe)):
            torch.testing.assert_close(made[i, :, :height, :width], value)
            assert made[i, :, height:].abs().sum() == 0
            assert made[i, :, :, width:].abs().sum() == 0


def test_teacher_sees_exactly_what_its_own_preprocessor_makes(caffe_fcos,
                                                               retinanet):
    data = demo_mm_inputs(2, [(3, 64, 128)] * 2, num_classes=5)
    own = MODELS.build(caffe_fcos.data_preprocessor)(copy.deepcopy(data))
    batch = both(retinanet, caffe_fcos)(data, True)
    assert torch.equal(batch['teacher_inputs']['other'], own['inputs'])


def test_outside_training_it_is_the_students_own(retinanet, caffe_fcos):
    data = demo_mm_inputs(2, [(3, 60, 100), (3, 96, 50)], num_classes=5)
    plain = MODELS.build(retinanet.data_preprocessor)(copy.deepcopy(data))
    ours = both(retinanet, caffe_fcos)(copy.deepcopy(data), False)
    assert torch.equal(plain['inputs'], ours['inputs'])
    assert 'teacher_inputs' not in ours
    assert ours['data_samples'][0].pad_shape \
        == plain['data_samples'][0].pad_shape == (64, 128)


def test_augmentation_beyond_the_teachers_reach_is_refused(retinanet):
    student = copy.deepcopy(retinanet)
    student.data_preprocessor.batch_augments = [
        dict(type='BatchFixedSizePad', size=(128, 128))]
    with pytest.raises(ValueError, match='batch_augments.*BatchFixedSizePad'):
        both(student, retinanet)
    student.data_preprocessor = dict(type='mmengine.BaseDataPreprocessor')
    with pytest.raises(TypeError, match='DetDataPreprocessor'):
        both(student, retinanet)
