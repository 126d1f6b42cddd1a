"""Weights in the formats of other tools and versions."""
import pytest
import torch

from mtpd.compat.state_dicts import AmbiguousWeights, find_weights
from mtpd.distill.detector import CheckpointMismatch, load_weights
from mtpd.progression import export_student


class Detector(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1),
                                            torch.nn.BatchNorm2d(2))
        self.neck = torch.nn.Conv2d(2, 2, 1)


def weights_of(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {key: torch.randn_like(value) if value.is_floating_point()
            else value for key, value in Detector().state_dict().items()}


ONE, OTHER = weights_of(1), weights_of(2)
SMALL = {'backbone.0.weight': torch.ones(1), 'neck.weight': torch.ones(1)}


def below(prefix: str, weights=ONE) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in weights.items()}


def copies(weights) -> dict[str, torch.Tensor]:
    """As EMAHook of mmcv 1 and mmdet 2 names them."""
    return {'ema_' + key.replace('.', '_'): value
            for key, value in weights.items()}


MOMENTS = {'state': {0: {'exp_avg': torch.ones(2)}}, 'param_groups': []}

# name -> (content of the file, what the log says beside "9 of 9"), all
# with the weights ONE.
FORMATS = {
    'mmengine': (dict(state_dict=ONE, optimizer=MOMENTS), ()),
    'mmengine with EMA': (dict(state_dict=ONE, ema_state_dict={
        'steps': torch.tensor(3), **below('module.', OTHER)}), ()),
    'the weights themselves': (ONE, ()),
    'beside other entries': ({**ONE, 'epoch': 3, 'meta': None}, ()),
    'wrapped': (dict(state_dict=below('module.')), ()),
    'mmdet 2 with EMA': (dict(state_dict={**ONE, **copies(OTHER)}), (
        '9 tensors left out, such as ema_backbone_0_weight',)),
    'copies alone': (dict(state_dict=copies(ONE)), ("copies 'ema_...'",)),
    'copies alone, with dots': (dict(state_dict=below('ema_')), (
        "copies 'ema_...'",)),
    'mmrazor': (dict(state_dict={
        **below('teacher.', OTHER), **below('architecture.'),
        'distiller.connectors.a.weight': torch.ones(1)}), (
            "from below 'architecture.'", '10 tensors left out')),
    'a student beside its teacher': (dict(state_dict={
        **below('student.'), **below('teacher.', OTHER)}), (
            "from below 'student.'", '9 tensors left out, such as teacher.')),
    'a teacher beside the plain weights': (dict(state_dict={
        **ONE, **below('teacher.', OTHER)}), ('9 tensors left out',)),
    'wrapped, below a prefix, with EMA': (dict(state_dict={
        **below('module.architecture.'), **below('module.teacher.', OTHER),
        **below('module.architecture.', copies(OTHER))}), (
            "below 'module.architecture.'", '18 tensors left out')),
    'any prefix': (dict(state_dict=below('detector.net.')), (
        "below 'detector.net.'",)),
    'model': (dict(model=ONE, optimizer=MOMENTS), ("entry 'model'",)),
    'model_state_dict': (dict(model_state_dict=ONE, epoch=2), (
        "entry 'model_state_dict'",)),
    'a name of their own': (dict(weights=below('model.')), (
        "entry 'weights'", "below 'model.'")),
    'averaged beside the last': (dict(
        model=OTHER, ema={'module': ONE, 'updates': 7}), (
            "entry 'ema.module'", "the weights in 'model' left out")),
    'averaged alone': (dict(ema_state_dict=below('module.')), (
        "entry 'ema_state_dict'",)),
    'a smaller student below the preferred name': (dict(state_dict={
        **below('student.', SMALL), **below('teacher.')}), (
            "below 'teacher.'",)),
}


@pytest.fixture
def logged(monkeypatch):
    lines = []
    for module in ('mtpd.distill.detector', 'mtpd.progression.export'):
        monkeypatch.setattr(f'{module}.print_log',
                            lambda text, **_: lines.append(text))
    return lines


def same(weights) -> bool:
    return weights.keys() == ONE.keys() and all(
        torch.equal(weights[key], value) for key, value in ONE.items())


@pytest.mark.parametrize('name', FORMATS)
def test_weights_are_found_and_the_log_says_where(name, tmp_path, logged):
    content, words = FORMATS[name]
    path = str(tmp_path / 'other.pth')
    torch.save(content, path)
    detector = Detector()
    load_weights(detector, path, 'mtpd.student.checkpoint')
    assert same(detector.state_dict())
    line, = logged
    start = f'mtpd.student.checkpoint: 9 of 9 tensors match {path}'
    assert line.startswith(start) and all(word in line for word in words)
    assert (line == start) == (not words)
    detector.dataset_meta.update(classes=())  # a dict in every case

    if name in ('copies alone', 'a smaller student below the preferred name'):
        return  # only a model's own keys tell what these are
    export_student(path, str(tmp_path / 'plain.pth'))
    assert same(torch.load(tmp_path / 'plain.pth')['state_dict'])
    assert len(logged) == 1 + bool(words)
    assert all(word in logged[-1] for word in words)


def lacking(weights) -> dict[str, torch.Tensor]:
    return {key: value for key, value in weights.items()
            if key != 'neck.weight'}


@pytest.mark.parametrize('content, why', [
    (dict(state_dict=below('student.', lacking(ONE))),
     'missing in the file: neck.weight'),
    (dict(state_dict={**ONE, 'neck.extra': torch.ones(1)}),
     'not in the model: neck.extra'),
    (dict(state_dict={**ONE, 'ema_neck_extra': torch.ones(1)}),
     'not in the model: ema_neck_extra'),
    (dict(state_dict={**lacking(ONE), **copies(ONE)}),
     'missing in the file: neck.weight'),
    (dict(model=below('net.', SMALL)), '0 of 9 tensors match'),
    (dict(state_dict={**below('one.'), **below('two.', OTHER)}),
     "several detectors that fit equally: entry 'state_dict', prefix 'one.'; "
     "entry 'state_dict', prefix 'two.'"),
    (dict(optimizer=MOMENTS), '0 of 9 tensors match'),
    ({}, '0 of 9 tensors match')])
def test_loading_stays_strict(content, why, tmp_path):
    path = str(tmp_path / 'other.pth')
    torch.save(content, path)
    with pytest.raises(CheckpointMismatch) as error:
        load_weights(Detector(), path, 'mtpd.student.checkpoint')
    assert why in str(error.value)
    assert str(error.value).startswith(f'mtpd.student.checkpoint: {path} ')


def test_an_export_without_a_detector_is_refused(tmp_path):
    path = str(tmp_path / 'other.pth')
    for content, why in ((dict(optimizer=MOMENTS), 'no weights of a detector'),
                         (dict(state_dict=copies(ONE)), 'no weights of a det'),
                         (dict(state_dict={**below('one.'), **below('two.')}),
                          'several detectors')):
        torch.save(content, path)
        with pytest.raises(CheckpointMismatch, match=why):
            export_student(path, str(tmp_path / 'plain.pth'))
        assert not (tmp_path / 'plain.pth').exists()


def test_keys_that_only_look_like_a_prefix_stay():
    own = {'backbone.backbone.weight': torch.ones(1),
           'neck.backbone.weight': torch.ones(2),
           'teacher.head.weight': torch.ones(3),
           'ema_scale': torch.ones(4)}
    weights, notes, _ = find_weights(dict(state_dict=dict(own)), own)
    assert weights.keys() == own.keys() and notes == ()
    assert list(find_weights(dict(state_dict={
        f'module.{key}': value for key, value in own.items()}), own)[0]
        ) == list(own)
    with pytest.raises(AmbiguousWeights):
        find_weights({'a': ONE, 'b': ONE}, ONE)
