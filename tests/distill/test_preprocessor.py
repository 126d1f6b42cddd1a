import copy
import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.logging import MessageHub

from mtpd.distill.preprocessor import (DistillDataPreprocessor,
                                       common_divisor)


def both(student, teacher):
    return MODELS.build(dict(
        type='DistillDataPreprocessor',
        student=MODELS.build(student.data_preprocessor),
        teachers=dict(other=teacher.data_preprocessor)))


def test_each_side_normalises_as_its_own_preprocessor(retinanet, caffe_fcos):
    ours = both(retinanet, caffe_fcos)
    data = demo_mm_inputs(2, [(3, 60, 100), (3, 96, 50)], num_classes=5)
    raw = [image.clone() for image in data['inputs']]
    batch = ours(data, True)

    # By hand, from the raw images: student RGB over ImageNet's std; teacher
    # caffe style, BGR, means of its own and no std.
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    caffe = torch.tensor([102.9801, 115.9465, 122.7717]).view(3, 1, 1)
    # Divisors 32 and 64: both grids are multiples of 64.
    assert batch['inputs'].shape == batch['teacher_inputs']['other'].shape \
        == (2, 3, 128, 128)
    for i, image in enumerate(raw):
        height, width = image.shape[-2:]
        for made, value in (
                (batch['inputs'], (image[[2, 1, 0]].float() - mean) / std),
                (batch['teacher_inputs']['other'], image.float() - caffe)):
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


@pytest.mark.parametrize('scale', ['1', '1/2'])
def test_a_resized_batch_is_resized_for_everybody(retinanet, caffe_fcos,
                                                  scale):
    """YOLOX's way: to a size that is drawn every few iterations. What a
    teacher gets is its own normalisation of the resized images."""
    student = copy.deepcopy(retinanet)
    student.data_preprocessor.batch_augments = [dict(
        type='BatchSyncRandomResize', random_size_range=(128, 128),
        interval=2, size_divisor=64)]
    caffe = {**caffe_fcos.data_preprocessor, 'pad_size_divisor': 32}
    part = DistillDataPreprocessor(
        MODELS.build(student.data_preprocessor),
        {'other': caffe}, {'other': scale})
    hub = MessageHub.get_instance('resizing')
    hub.update_info('iter', 1)  # of which the next size is drawn
    data = demo_mm_inputs(2, [(3, 64, 128)] * 2, num_classes=5)
    inputs = data['inputs']
    if scale != '1':
        data['teacher_inputs'] = {scale: [image[:, ::2, ::2]
                                          for image in inputs]}
    data['unlabelled'] = {**copy.deepcopy(data)}
    del data['unlabelled']['data_samples']
    first = part(copy.deepcopy(data), True)
    assert first['inputs'].shape == (2, 3, 64, 128)
    boxes = first['data_samples'][0].gt_instances.bboxes.clone()
    hub.update_info('iter', 2)
    batch = part(copy.deepcopy(data), True)
    assert batch['inputs'].shape == (2, 3, 128, 256)
    assert torch.equal(
        batch['data_samples'][0].gt_instances.bboxes, boxes * 2)
    side = float(Fraction(scale))
    images = F.interpolate(
        torch.stack(inputs if scale == '1' else data['teacher_inputs'][scale]
                    ).float(), (int(128 * side), int(256 * side)),
        mode='bilinear', align_corners=False)
    own = MODELS.build(caffe)(
        dict(inputs=list(images), data_samples=None))['inputs']
    assert batch['unlabelled']['inputs'].shape == (2, 3, 128, 256)
    for made in (batch, batch['unlabelled']):
        torch.testing.assert_close(made['teacher_inputs']['other'], own,
                                   atol=1e-4, rtol=0)
        torch.testing.assert_close(made['inputs'], batch['inputs'])
    # Without teachers the student is trained as before, and predicts so.
    part.teachers_active = False
    alone = part(copy.deepcopy(data), True)
    assert alone['inputs'].shape == (2, 3, 128, 256)
    assert part(copy.deepcopy(data))['inputs'].shape == (2, 3, 64, 128)


def test_a_size_without_a_teachers_divisor_is_refused(retinanet):
    student, teacher = copy.deepcopy(retinanet), copy.deepcopy(retinanet)
    student.data_preprocessor.batch_augments = [dict(
        type='BatchSyncRandomResize', random_size_range=(96, 96))]
    teacher.data_preprocessor.pad_size_divisor = 48
    with pytest.raises(ValueError, match='resize to multiples of 32, and its '
                       'teachers need multiples of 96. Set size_divisor=96'):
        both(student, teacher)


def test_augmentation_beyond_the_teachers_reach_is_refused(retinanet):
    student = copy.deepcopy(retinanet)
    student.data_preprocessor.batch_augments = [
        dict(type='BatchFixedSizePad', size=(128, 128))]
    with pytest.raises(ValueError, match='batch_augments.*BatchFixedSizePad'):
        both(student, retinanet)
    student.data_preprocessor = dict(type='mmengine.BaseDataPreprocessor')
    with pytest.raises(TypeError, match='DetDataPreprocessor'):
        both(student, retinanet)


@pytest.mark.parametrize('student, teachers', [
    (32, [(32, '1')]), (32, [(64, '1')]), (32, [(32, '2')]),
    (32, [(128, '2'), (32, '3')]), (1, [(32, '3/4')]), (32, [(32, '1/2')]),
    (32, [(32, '4/3'), (28, '5/2')]), (20, [(32, '7/5')])])
def test_the_common_divisor_is_the_smallest_that_serves_all(student, teachers):
    teachers = [(d, Fraction(s)) for d, s in teachers]

    def serves(size):
        return size % student == 0 and all(
            (size * scale / d).denominator == 1 for d, scale in teachers)

    found = common_divisor(student, teachers)
    assert serves(found)
    assert found == next(n for n in range(1, 10 ** 5) if serves(n))


@pytest.mark.parametrize('scale', ['2', '3', '3/2', '1/2', '1/4', '4/3'])
@pytest.mark.parametrize('sizes', [[(60, 100), (96, 50)], [(33, 65), (1, 64)],
                                   [(97, 131), (64, 129)]])
def test_padded_sizes_are_exact_multiples_whatever_the_images(
        retinanet, caffe_fcos, scale, sizes):
    ours = MODELS.build(dict(
        type='DistillDataPreprocessor',
        student=MODELS.build(retinanet.data_preprocessor),
        teachers=dict(a=caffe_fcos.data_preprocessor,
                      b=retinanet.data_preprocessor), scales=dict(a=scale)))
    data = demo_mm_inputs(2, [(3, *s) for s in sizes], num_classes=5)
    r = Fraction(scale)
    data['teacher_inputs'] = {scale: [
        torch.randint(0, 255, (3, *(math.floor(side * r + Fraction(1, 2))
                                    for side in size)))
        for size in sizes]}
    batch = ours(copy.deepcopy(data), True)
    student, a, b = (tuple(m.shape[-2:]) for m in (
        batch['inputs'], batch['teacher_inputs']['a'],
        batch['teacher_inputs']['b']))
    assert b == student
    assert a == tuple(side * r for side in student)
    assert all(side % 32 == 0 for side in student)
    assert all(side % 64 == 0 for side in a)  # its own divisor
    image = data['teacher_inputs'][scale][0]
    height, width = image.shape[-2:]
    caffe = torch.tensor([102.9801, 115.9465, 122.7717]).view(3, 1, 1)
    torch.testing.assert_close(
        batch['teacher_inputs']['a'][0, :, :height, :width],
        image.float() - caffe)
    assert not batch['teacher_inputs']['a'][0, :, height:].any()


def test_images_of_a_scale_that_nobody_made_are_missed(retinanet):
    ours = MODELS.build(dict(
        type='DistillDataPreprocessor',
        student=MODELS.build(retinanet.data_preprocessor),
        teachers=dict(a=retinanet.data_preprocessor), scales=dict(a=2)))
    with pytest.raises(ValueError, match='teachers.a.scale is 2, and the'):
        ours(demo_mm_inputs(1, [(3, 32, 32)], num_classes=5), True)
    ours.teachers_active = False  # distillation has stopped
    batch = ours(demo_mm_inputs(1, [(3, 32, 32)], num_classes=5), True)
    assert batch['teacher_inputs'] == {}


def test_grids_of_odd_images_meet_where_aligned_ones_do(retinanet):
    """A batch of odd, mixed sizes at scale 2: each image's adapted map, cut
    to it, is what the image gives alone on exactly aligned inputs."""
    from mtpd.distill.adapters import resample
    ours = MODELS.build(dict(
        type='DistillDataPreprocessor',
        student=MODELS.build(retinanet.data_preprocessor),
        teachers=dict(a=retinanet.data_preprocessor), scales=dict(a=2)))
    sizes = [(97, 131), (64, 75)]
    data = demo_mm_inputs(2, [(3, *s) for s in sizes], num_classes=5)
    data['teacher_inputs'] = {'2': [
        p.repeat_interleave(2, 1).repeat_interleave(2, 2)
        for p in data['inputs']]}
    batch = ours(copy.deepcopy(data), True)

    def maps(images, stride):  # a detector that averages over its cells
        return torch.nn.functional.avg_pool2d(images, stride)

    for stride in (8, 16, 32):
        student = maps(batch['inputs'], stride)
        teacher = maps(batch['teacher_inputs']['a'], stride)
        assert teacher.shape[-2:] == tuple(2 * n for n in student.shape[-2:])
        adapted = resample(student, teacher.shape[-2:])
        for i, (height, width) in enumerate(sizes):
            alone = batch['inputs'][i:i + 1, :, :-(-height // 32) * 32,
                                    :-(-width // 32) * 32]
            aligned = resample(maps(alone, stride), tuple(
                2 * side // stride for side in alone.shape[-2:]))
            # Up to the last cell, whose neighbour is padding in the batch and
            # itself where the image stands alone.
            rows, columns = (n - 1 for n in aligned.shape[-2:])
            torch.testing.assert_close(adapted[i, :, :rows, :columns],
                                       aligned[0, :, :rows, :columns])
