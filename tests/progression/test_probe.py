"""Three real steps before hours are spent."""
from pathlib import Path

import pytest
import torch
from mmdet.models.dense_heads import RetinaHead
from mmdet.registry import DATASETS
from mmengine.logging import MessageHub
from PIL import Image

from mtpd.data.image_files import size_in_header
from mtpd.distill.distiller import FeatureDistiller
from mtpd.progression import PlanError, make_plan, run_progression
from mtpd.plan.data_check import batches_of
from mtpd.progression.probe import largest_batch, probe, unlabelled_batch


def test_every_stage_is_probed_at_the_largest_size(toy, monkeypatch):
    cfg = toy()
    steps = cfg.train_dataloader.dataset.pipeline
    steps[1] = dict(type='RandomChoiceResize', scales=[(96, 64), (160, 100)],
                    keep_ratio=True)
    sizes = []
    step = FeatureDistiller.train_step

    def look(self, data, optimizer):
        sizes.append({tuple(p.shape[-2:]) for p in data['inputs']})
        return step(self, data, optimizer)

    monkeypatch.setattr(FeatureDistiller, 'train_step', look)
    estimates = probe(make_plan(cfg), (('wide',), ('swin',)))
    # 96x64 in 160x100: the short edge binds, at 150x100.
    assert sizes == [{(100, 150)}] * 6
    assert [e.teacher for e in estimates] == ['wide', 'swin']
    for estimate in estimates:
        assert estimate.size == (100, 150)
        assert estimate.steps == 2 * 3  # epochs x steps of 8 of 24 images
        assert estimate.peak > 2 ** 26 and estimate.seconds > 0
        assert estimate.hours == pytest.approx(6 * estimate.seconds / 3600)


@pytest.mark.parametrize('loader, batches', [
    ({}, 3), (dict(drop_last=True), 2), (dict(num_batch_per_epoch=1), 1),
    (dict(batch_sampler=dict(drop_last=True), num_batch_per_epoch=5), 2)])
def test_steps_are_counted_as_the_loader_counts_them(loader, batches):
    assert batches_of(8, dict(batch_size=3, **loader)) == batches


def test_a_batch_of_both_orientations_is_padded_to_a_square(toy, monkeypatch):
    cfg = toy()
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    info = dataset.get_data_info
    monkeypatch.setattr(dataset, 'get_data_info', lambda i: {
        **info(i), **(dict(height=96, width=64) if i == 7 else {})})
    batch, size = largest_batch(cfg, dataset)
    assert size == (96, 96)
    assert {tuple(p.shape) for p in batch['inputs']} == {(3, 96, 96)}


def test_images_without_labels_come_on_their_own_largest_canvas(tmp_path):
    """Frames of both orientations, one of them by its EXIF entry; a torn one
    is passed over, also as the first."""
    for i, size in enumerate([(96, 64), (96, 64), (64, 96), (96, 64)]):
        image = Image.new('RGB', size)
        exif = image.getexif()
        exif[274] = 6 if i == 3 else 1
        image.save(tmp_path / f'{i}.jpg', exif=exif)
    torn = tmp_path / '0.png'
    Image.new('RGB', (96, 64)).save(torn)
    (tmp_path / '0.jpg').unlink()
    torn.write_bytes(torn.read_bytes()[:60])
    assert [size_in_header(str(path)) for path in sorted(
        tmp_path.iterdir())] == [(64, 96), (64, 96), (96, 64), (96, 64)]
    part = dict(batch_size=2, dataset=dict(
        type='UnlabelledImages', data_prefix=dict(img=str(tmp_path)),
        pipeline=[dict(type='LoadImageFromFile'),
                  dict(type='Resize', scale=(128, 72), keep_ratio=True),
                  dict(type='PackDetInputs')]))
    for count, labelled, size in ((2, (64, 96), (108, 108)),
                                  (2, (64, 200), (108, 200)),
                                  (1, (1, 1), None)):
        batch = unlabelled_batch({**part, 'batch_size': count}, labelled)
        assert len(batch['inputs']) == count
        for image in batch['inputs']:
            assert tuple(image.shape[1:]) in (
                [size] if size else [(72, 108), (108, 72)])


def test_a_bound_that_no_image_reaches_costs_nothing(toy):
    cfg = toy()
    steps = cfg.train_dataloader.dataset.pipeline
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    for scale, keep_ratio, size in (((4200, 64), True, (64, 96)),
                                    ((128, 128), True, (85, 128)),
                                    ((128, 128), False, (128, 128))):
        steps[1] = dict(type='Resize', scale=scale, keep_ratio=keep_ratio)
        assert largest_batch(cfg, dataset)[1] == size


def test_what_does_not_fit_stops_before_the_first_stage(toy, monkeypatch):
    cfg = toy()
    step = FeatureDistiller.train_step

    def small(self, data, optimizer):
        if 128 not in self.guidances[0].adapter.strides:  # the Swin, stage 2
            raise torch.OutOfMemoryError('Tried to allocate 9 GiB.')
        return step(self, data, optimizer)

    monkeypatch.setattr(FeatureDistiller, 'train_step', small)
    with pytest.raises(PlanError, match=r'Stage 2 \(swin\) does not fit.*9 GiB'
                                        r'.*batch_size.*--no-probe'):
        run_progression(cfg)
    assert not list(Path(cfg.work_dir).glob('stage*'))


def test_a_student_that_cannot_predict_is_told_before_the_first_stage(
        toy, monkeypatch):
    """mmdet's CenterNet reads 'border' of each validation image, which only
    its own test pipeline packs; without a checkpoint nothing was predicted
    before the first validation."""
    cfg = toy(student=dict(checkpoint=None))

    def predict(self, maps, samples, **kwargs):
        raise KeyError('border')

    monkeypatch.setattr(RetinaHead, 'predict', predict)
    with pytest.raises(PlanError) as error:
        run_progression(cfg)
    assert ('RetinaNet cannot predict 8 images of val_dataloader, as the '
            "validation of every stage does (KeyError: 'border')"
            in str(error.value))
    assert not list(Path(cfg.work_dir).glob('stage*'))


def test_the_probe_changes_nothing(toy_in, tmp_path):
    weights = []
    for with_probe in (True, False):
        cfg = toy_in(tmp_path / str(with_probe), order=['swin'])
        cfg.train_cfg.max_epochs = 1
        result = run_progression(cfg, with_probe=with_probe)
        weights.append(torch.load(result.student)['state_dict'])
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_the_probe_has_the_largest_size_that_is_drawn(toy, monkeypatch):
    """YOLOX's preprocessor resizes the batch; and heads that read the epoch
    find one."""
    cfg = toy()
    cfg.model.data_preprocessor.batch_augments = [dict(
        type='BatchSyncRandomResize', random_size_range=(64, 160))]
    step, seen = FeatureDistiller.train_step, []

    def look(self, data, optimizer):
        hub = MessageHub.get_current_instance()
        seen.append((hub.get_info('epoch'), hub.get_info('iter')))
        return step(self, data, optimizer)

    monkeypatch.setattr(FeatureDistiller, 'train_step', look)
    estimate, = probe(make_plan(cfg), (('wide',),))
    # 64 x 96 pixels: 5 times 32, and int(1.5 * 5) times 32.
    assert estimate.size == (160, 224) and seen == [(0, 0)] * 3
    cfg.model.data_preprocessor.batch_augments[0].random_size_range = (32, 32)
    assert probe(make_plan(cfg), (('wide',),))[0].size == (64, 96)
