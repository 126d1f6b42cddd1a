"""One teacher's part: what is paired, what runs, what is refused."""
import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from shrink import shrunk

from mtpd.distill import (FrozenDetector, PyramidAdapter, TeacherBranch,
                          build_detector, make_branch)
from mtpd.distill.auto_weight import NoGradient
from mtpd.distill.branch import ImageGroup, NotFinite
from mtpd.distill.losses import (Mechanism, Pairing,
                                 build_mechanism)
from mtpd.distill.pyramid import dry_pass
from mtpd.plan.detectors import load_config


def batch(sizes=((3, 64, 96), (3, 80, 64))) -> dict:
    return demo_mm_inputs(2, list(sizes), num_items=[3, 2], num_classes=5)


@pytest.fixture
def distiller(retinanet, checkpoint_of):
    """A RetinaNet student taught by any model."""
    def build(teacher, distill, **changes):
        torch.manual_seed(0)
        return MODELS.build({
            'type': 'FeatureDistiller', 'student': retinanet,
            'teachers': [dict(name='t', model=teacher,
                              checkpoint=checkpoint_of(teacher, 1, 't'))],
            'distill': distill,
            'student_checkpoint': checkpoint_of(retinanet, 2, 'student'),
            **changes}).train()
    return build


@pytest.fixture
def wide(retinanet):
    """A RetinaNet of 24 channels, whose head agrees with the student's."""
    model = copy.deepcopy(retinanet)
    model.neck.out_channels = model.bbox_head.in_channels = 24
    return model


def losses_of(model, data) -> dict:
    return model(**model.data_preprocessor(copy.deepcopy(data), True),
                 mode='loss')


def test_scores_are_those_of_both_heads(distiller, wide):
    model = distiller(wide, dict(type='LogitLoss', loss_weight=3.,
                                 temperature=2.))
    data = batch()
    seen = model.data_preprocessor(copy.deepcopy(data), True)
    losses = losses_of(model, data)
    own = model.student.bbox_head(model.student.extract_feat(
        seen['inputs']))[0]
    teacher = model.guidances[0].teacher.detector
    with torch.no_grad():
        theirs = teacher.bbox_head(teacher.extract_feat(
            seen['teacher_inputs']['t']))[0]
    for stride, u, t in zip((8, 16, 32, 64, 128), own, theirs):
        p, q = (torch.sigmoid(x.double() / 2) for x in (t, u))
        divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        expected = 3 * 4 * divergence.sum(1).mean() / 5
        torch.testing.assert_close(losses[f'loss_distill_s{stride}'].double(),
                                   expected, rtol=1e-4, atol=1e-7)


def test_the_head_of_the_teacher_runs_only_where_scores_are_compared(
        distiller, wide, monkeypatch):
    for mechanism, runs in (('LogitLoss', 1), ('FGDLoss', 0),
                            ('FeatureL2Loss', 0)):
        model = distiller(wide, dict(type=mechanism))
        head = model.guidances[0].teacher.detector.bbox_head
        calls = []
        whole = head.forward
        monkeypatch.setattr(head, 'forward', lambda x: (
            calls.append(1), whole(x))[1])
        losses_of(model, batch())
        assert len(calls) == runs


def test_heads_that_disagree_are_named(retinanet, swin_mask_rcnn, caffe_fcos,
                                       wide):
    student = build_detector(retinanet)
    more = copy.deepcopy(wide)
    more.bbox_head.num_classes = 7
    for teacher, words in (
            (swin_mask_rcnn, 'teachers.t and of the student do not agree '
             r'\(stride: anchors x classes\): RPNHead .*RetinaHead \{8: 45'),
            (caffe_fcos, r'FCOSHead \{8: 5,.*RetinaHead \{8: 45'),
            (more, r'RetinaHead \{8: 63,.*RetinaHead \{8: 45')):
        guide = FrozenDetector(build_detector(teacher))
        with pytest.raises(ValueError, match=words):
            make_branch(student, guide, 't', dict(type='LogitLoss'))
        make_branch(student, guide, 't', dict(type='CWDLoss'))


@pytest.mark.parametrize('name, words', [
    ('tood/tood_r50_fpn_1x_coco.py', 'TOODHead makes probabilities'),
    ('centernet/centernet_r18_8xb16-crop512-140e_coco.py',
     'CenterNetHead makes probabilities'),
    ('yolo/yolov3_mobilenetv2_8xb24-ms-416-300e_coco.py',
     'YOLOV3Head makes 30 maps of 3 anchors and 5 classes'),
    ('deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
     'DeformableDETRHead makes none of feature maps alone')])
def test_what_a_head_makes_has_to_be_scores_before_the_sigmoid(name, words):
    model = load_config(f'mmdet::{name}').model
    if 'centernet' in name:
        model.backbone.init_cfg = None
        model.bbox_head.num_classes = 5
    else:
        model = shrunk(model)
    student, teacher = (build_detector(model) for _ in range(2))
    guide = FrozenDetector(teacher)
    with pytest.raises(ValueError, match=f'{words}. Choose a mechanism on '
                       'feature maps'):
        make_branch(student, guide, 't', dict(type='LogitLoss'))
    make_branch(student, guide, 't', dict(type='CWDLoss'))


def test_a_head_whose_operator_is_missing_names_the_cure():
    model = shrunk(load_config(
        'mmdet::guided_anchoring/ga-retinanet_r50_fpn_1x_coco.py').model)
    detector = build_detector(model)
    with pytest.raises(ValueError, match='GARetinaHead cannot make them here: '
                       'mtpd has no operator .masked_.* of mmcv .*pip install '
                       'mmcv.* Choose a mechanism on feature maps'):
        make_branch(detector, FrozenDetector(build_detector(model)), 't',
                    dict(type='LogitLoss'))


def test_two_stage_detectors_agree_by_their_rpn(swin_mask_rcnn):
    student, teacher = (build_detector(swin_mask_rcnn) for _ in range(2))
    branch = make_branch(student, FrozenDetector(teacher), 't',
                         dict(type='LogitLoss'))
    assert branch.mechanism.pairing.two_stage
    assert branch.adapter.strides == (4, 8, 16, 32, 64)


def test_small_scores_of_an_rpn_are_not_taken_for_probabilities(
        swin_mask_rcnn):
    """They are near 0 from mmdet's initialisation; of a black image all of
    them can lie above it."""
    student, teacher = (build_detector(swin_mask_rcnn) for _ in range(2))
    for detector in (student, teacher):
        for parameter in detector.neck.parameters():
            torch.nn.init.zeros_(parameter)
        torch.nn.init.normal_(detector.rpn_head.rpn_cls.weight, std=0.01)
        torch.nn.init.constant_(detector.rpn_head.rpn_cls.bias, 0.05)
    black = dry_pass(student, lambda maps: student.rpn_head(maps)[0])[1]
    assert all(scores.min() > 0 and scores.max() < 1 for scores in black)
    make_branch(student, FrozenDetector(teacher), 't', dict(type='LogitLoss'))


def test_the_automatic_weight_uses_scores_too(distiller, wide):
    model = distiller(wide, dict(type='WeightedSum', losses=[
        dict(type='LogitLoss'), dict(type='PKDLoss')],
        loss_weight=dict(share=0.5, iterations=2)))
    for _ in range(2):
        total, _ = model.parse_losses(losses_of(model, batch()))
        total.backward()
    assert 0 < model.guidances[0].auto.factor.item() < float('inf')
    both = model.guidances[0].auto.factor.item()
    for mechanism in ('LogitLoss', 'PKDLoss'):
        alone = distiller(wide, dict(type=mechanism, loss_weight=dict(
            share=0.5, iterations=2)))
        for _ in range(2):
            losses_of(alone, batch())
        factor = alone.guidances[0].auto.factor.item()
        assert 0 < factor < float('inf')
        assert factor != pytest.approx(both, rel=0.01)


@pytest.mark.parametrize('weight', [1., 'auto'])
def test_a_student_that_cannot_learn_from_its_maps_is_refused(distiller, wide,
                                                              weight):
    """Its head can, from scores; and one layer of the neck is enough."""
    model = distiller(wide, dict(type='FeatureL2Loss', loss_weight=weight))
    for part in (model.backbone, model.neck):
        part.requires_grad_(False)
    with pytest.raises(NoGradient, match='maps of the student that t is to '
                       'teach: all layers before them are frozen'):
        losses_of(model, batch())
    with torch.no_grad():
        losses_of(model, batch())
    model.neck.fpn_convs[0].requires_grad_(True)
    total, _ = model.parse_losses(losses_of(model, batch()))
    total.backward()
    scores = distiller(wide, dict(type='LogitLoss', loss_weight=weight))
    for part in (scores.backbone, scores.neck):
        part.requires_grad_(False)
    assert losses_of(scores, batch())


def test_without_maps_to_adapt_there_is_no_convolution(distiller, wide):
    """Attention maps have no channels; scores need no maps at all."""
    for mechanism in ('AttentionTransferLoss', 'LogitLoss'):
        model = distiller(wide, dict(type=mechanism), adapter='conv')
        assert not list(model.guidances[0].adapter.parameters())
        losses = losses_of(model, batch())
        assert {k for k in losses if 'loss_distill' in k} == {
            f'loss_distill_s{s}' for s in (8, 16, 32, 64, 128)}


@pytest.mark.parametrize('side', ['teacher', 'student'])
def test_what_is_not_finite_is_named_with_its_level(distiller, wide, side,
                                                    monkeypatch):
    model = distiller(wide, dict(type='FeatureL2Loss'),
                      init_adapters='random')
    neck = (model.student if side == 'student' else
            model.guidances[0].teacher.detector).neck
    whole = neck.forward

    def poisoned(inputs):
        maps = list(whole(inputs))
        maps[2] = maps[2].clone()
        maps[2][0, 0, 0, 0] = torch.inf
        return tuple(maps)

    monkeypatch.setattr(neck, 'forward', poisoned)
    words = 'teacher t' if side == 'teacher' else 'student'
    with pytest.raises(NotFinite, match=f'map of the {words} at stride 32'):
        losses_of(model, batch())


def test_a_loss_that_overflows_over_finite_maps_is_named(distiller, wide):
    class Overflowing(Mechanism):
        def level_loss(self, stride, student, teacher, context):
            return (student.abs() + 1).sum() * (1e38 if stride == 64 else 0)

    model = distiller(wide, dict(type=Overflowing))
    with pytest.raises(NotFinite, match='loss_distill_s64 is not finite, '
                                        'although all maps are'):
        losses_of(model, batch())


def test_adapters_do_not_start_at_zero_with_a_scale_free_distance(
        retinanet, wide):
    student = build_detector(retinanet)
    guide = FrozenDetector(build_detector(wide))
    for mechanism in (dict(type='PKDLoss'), dict(type='CosineLoss'),
                      dict(type='HiddenStateLoss'),
                      dict(type='WeightedSum', losses=[
                          dict(type='FeatureL2Loss'), dict(type='PKDLoss')]),
                      dict(type='WeightedSum', losses=[
                          dict(type='FeatureL2Loss'),
                          dict(type='AttentionTransferLoss')])):
        with pytest.raises(ValueError, match="'zero' does not go with"):
            make_branch(student, guide, 't', mechanism, start='zero')
        conv = make_branch(student, guide, 't',
                           mechanism).adapter.levels['8'].project
        assert conv.weight.abs().min() > 0
    conv = make_branch(student, guide, 't',
                       dict(type='FeatureL2Loss')).adapter.levels['8']
    assert not conv.project.weight.any()
    auto = dict(type='FeatureL2Loss', loss_weight='auto')
    with pytest.raises(ValueError, match="loss_weight='auto', which compares"):
        make_branch(student, guide, 't', auto, start='zero')
    conv = make_branch(student, guide, 't', auto).adapter.levels['8']
    assert conv.project.weight.abs().min() > 0


def test_wrong_mechanisms_are_named(retinanet, wide):
    student = build_detector(retinanet)
    guide = FrozenDetector(build_detector(wide))
    for distill, words in (
            (dict(type='ResNet'), "'ResNet' is no mtpd Mechanism. Known: Att"),
            (dict(type='PKD'), "'PKD' is not known.*PKDLoss"),
            (dict(type='WeightedSum', losses=[dict(type='PKD')]),
             "'PKD' is not known.*PKDLoss"),
            (dict(type='CWDLoss', tau=0), 'mtpd.distill: .*tau'),
            (dict(type='CWDLoss', taw=1), "mtpd.distill: .*'taw'"),
            (dict(type='MGDLoss', loss_weight=-1), 'mtpd.distill: .*weight')):
        with pytest.raises(ValueError, match=words):
            make_branch(student, guide, 't', distill)


def test_a_pair_without_a_common_level_names_both_pyramids(retinanet, wide):
    student = build_detector(retinanet)
    with pytest.raises(ValueError, match=(
            r'asks for \[4\].*teachers.t has stride 8: 24 channels, .*the '
            r'student has stride 8: 16 channels,.*Set mtpd.strides=\(8, 16')):
        make_branch(student, FrozenDetector(build_detector(wide)), 't',
                    dict(type='FeatureL2Loss'), strides=(4,))


def test_what_backward_keeps_for_the_teacher_is_one_set_of_maps(distiller,
                                                                retinanet):
    """Same channels and grid, so no adapter: nothing but the teacher's own
    maps and the differences may be kept."""
    model = distiller(retinanet, dict(type='FeatureL2Loss'))
    data = model.data_preprocessor(batch(), True)

    def kept(run) -> int:
        sizes = {}
        with torch.autograd.graph.saved_tensors_hooks(
                lambda t: (sizes.setdefault(t.data_ptr(), t.numel()), t)[1],
                lambda t: t):
            losses = run()
        del losses
        return sum(sizes.values())

    alone = kept(lambda: model.student.loss(data['inputs'],
                                            data['data_samples']))
    both = kept(lambda: model(**data, mode='loss'))
    maps = sum(m.numel() for m in model.guidances[0].teacher(
        data['teacher_inputs']['t']).values())
    assert both - alone <= 2 * maps + 100


@pytest.mark.parametrize('mechanism', ['FGDLoss', 'MGDLoss', 'PKDLoss'])
@pytest.mark.parametrize('boxes', [
    [], [[500., 500., 600., 600.]], [[-40., -40., 30., 30.]]])
def test_images_without_boxes_or_with_boxes_outside(distiller, wide, boxes,
                                                    mechanism):
    data = batch()
    for sample in data['data_samples']:
        instances = sample.gt_instances[:len(boxes)]
        instances.bboxes = type(instances.bboxes)(
            torch.tensor(boxes).reshape(-1, 4))
        sample.gt_instances = instances
    model = distiller(wide, dict(type=mechanism))
    losses = losses_of(model, data)
    distill = sum(v for k, v in losses.items() if 'loss_distill' in k)
    distill.backward()
    assert distill.isfinite() and distill > 0
    assert all(p.grad.isfinite().all() for p in model.parameters()
               if p.grad is not None)
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0


def test_a_box_without_area_is_mmdets_own_infinity_and_is_named(distiller,
                                                                wide):
    """mmdet's data sets leave such boxes out; what comes past them ends in
    the logarithm of its width."""
    data = batch()
    for sample in data['data_samples']:
        sample.gt_instances.bboxes[0] = torch.tensor([5., 5., 5., 40.])
    model = distiller(wide, dict(type='FGDLoss'))
    with pytest.raises(NotFinite, match='^loss_bbox is not finite, although '
                                        'all maps are'):
        losses_of(model, data)
    model.set_strength(0)  # also when the teacher has stopped
    with pytest.raises(NotFinite, match='^loss_bbox is not finite'):
        losses_of(model, data)


@pytest.mark.parametrize('mechanism', [
    'LogitLoss', 'MGDLoss', 'FGDLoss', 'PKDLoss', 'CWDLoss', 'CosineLoss'])
def test_mixed_precision_of_the_step_or_of_the_teacher(distiller, wide,
                                                       mechanism):
    """Losses in float32, near those of full precision."""
    values = []
    for amp, fast in ((False, {}), (True, {}),
                      (False, dict(precision='bf16'))):
        model = distiller(wide, dict(type=mechanism), fast_teacher=fast)
        torch.manual_seed(3)  # MGD's mask
        with torch.autocast('cpu', torch.bfloat16, enabled=amp):
            losses = losses_of(model, batch())
        own = {k: v for k, v in losses.items() if 'loss_distill' in k}
        assert all(v.dtype == torch.float32 for v in own.values())
        values.append(sum(own.values()))
        values[-1].backward()
    assert values[1].item() == pytest.approx(values[0].item(), rel=0.1)
    assert values[2].item() == pytest.approx(values[0].item(), rel=0.1)


MECHANISMS = {
    'l2': dict(type='FeatureL2Loss'),
    'l2_normalised': dict(type='FeatureL2Loss', normalise=True),
    'cwd': dict(type='CWDLoss'), 'fgd': dict(type='FGDLoss'),
    # Masks are other draws in float64.
    'mgd': dict(type='MGDLoss', mask_ratio=0.), 'pkd': dict(type='PKDLoss'),
    'logit': dict(type='LogitLoss'),
    'attention': dict(type='AttentionTransferLoss'),
    'hidden': dict(type='HiddenStateLoss'),
    'hidden_plain': dict(type='HiddenStateLoss', normalise=False),
    'cosine': dict(type='CosineLoss'),
    'sum': dict(type='WeightedSum', losses=[
        dict(type='FeatureL2Loss'), dict(type='PKDLoss'),
        dict(type='LogitLoss')])}

GRIDS = {8: (24, 32), 16: (12, 16)}


class Given:
    """Stands for a teacher whose maps and scores are these."""

    def __init__(self, maps, scores):
        self.maps, self.said = maps, scores

    def __call__(self, inputs, strides=None):
        return self.maps

    def scores(self, maps):
        return self.said


def large(seed: int, dtype: torch.dtype) -> dict[int, torch.Tensor]:
    """Maps of up to 6e4, nearly all that half precision can hold."""
    torch.manual_seed(seed)
    return {s: (2e4 * torch.randn(2, 8, *grid)).clamp(-6e4, 6e4).to(dtype)
            for s, grid in GRIDS.items()}


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16],
                         ids=['fp16', 'bf16'])
@pytest.mark.parametrize('name', MECHANISMS)
def test_large_activations_are_compared_as_exactly_as_in_float32(name, dtype):
    student, theirs, own_scores, their_scores = (
        large(seed, dtype) for seed in range(4))
    context = (192, 256), (torch.tensor([[10., 20., 90., 120.]]),
                           torch.zeros(0, 4))

    def run(kind: torch.dtype, amp: bool):
        def to(maps):
            return {s: m.to(kind, copy=True) for s, m in maps.items()}

        torch.manual_seed(5)
        mechanism = build_mechanism(MECHANISMS[name],
                                    Pairing(dict.fromkeys(GRIDS, 8)))
        branch = TeacherBranch(
            't', Given(to(theirs), to(their_scores)),
            PyramidAdapter(dict.fromkeys(GRIDS, 8), dict.fromkeys(GRIDS, 8),
                           GRIDS, 'conv', 'identity'), mechanism)
        if kind == torch.float64:
            branch.double()
        leaves = [{s: m.requires_grad_() for s, m in to(maps).items()}
                  for maps in (student, own_scores)]
        with torch.autocast('cpu', dtype, enabled=amp):
            losses, (target,) = branch([ImageGroup(
                leaves[0], {'t': torch.zeros(1)}, *context, leaves[1])],
                torch.zeros(()))
        assert branch.not_finite(leaves[0], target) is None
        sum(losses.values()).backward()
        return losses, [m.grad for maps in leaves for m in maps.values()
                        if m.grad is not None]

    losses, gradients = run(dtype, amp=True)
    for kind, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-4)):
        exact, exact_gradients = run(kind, amp=False)
        assert losses.keys() == exact.keys()
        for key, value in losses.items():
            assert value.dtype == torch.float32 and value.isfinite()
            assert value.item() == pytest.approx(exact[key].item(),
                                                 rel=tolerance)
        assert len(gradients) == len(exact_gradients) >= len(GRIDS)
        assert any(g.any() for g in exact_gradients)
        info = torch.finfo(dtype)
        for one, other in zip(gradients, exact_gradients):
            assert one.dtype == dtype
            held = other.abs() < info.max
            torch.testing.assert_close(
                one[held].to(kind), other[held], rtol=info.eps,
                atol=1e-6 * other[held].abs().max() + info.tiny)
    # In half precision itself their squares would not be.
    assert student[8].to(torch.half).square().isinf().any()
