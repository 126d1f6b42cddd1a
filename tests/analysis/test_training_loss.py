"""The loss on fixed training images is the same whenever it is asked for."""
import copy

import numpy as np
import pytest
import torch

from mtpd.analysis.training_loss import TrainingImages, as_measured
from mtpd.distill.detector import build_detector
from mtpd.randomness import isolate_rng


def built(model):
    with isolate_rng(4):
        detector = build_detector(model)
        detector.init_weights()
    return as_measured(detector)


def test_it_is_the_detectors_own_loss(toy, retinanet):
    images = TrainingImages(toy(), 20, seed=1)
    # Batches of two, not of the loader's eight: errors need several.
    assert (images.count, images.batches) == (20, 10)
    detector = built(retinanet)
    assert detector.training
    seen = images.losses(detector)
    assert seen.dtype == np.float64 and seen.shape == (10,)
    batch = detector.data_preprocessor(
        copy.deepcopy(images._batches[3]), True)
    with torch.no_grad():
        parts = detector.loss(batch['inputs'], batch['data_samples'])
    own = sum(float(term) for terms in parts.values() for term in terms)
    assert seen[3] == pytest.approx(own, rel=1e-6)


def test_the_same_images_crops_and_draws_every_time(toy, retinanet,
                                                    swin_mask_rcnn):
    cfg = toy()
    cfg.train_dataloader.dataset.pipeline[2].with_mask = True
    images = TrainingImages(cfg, 4, seed=1)
    # Samples of RoIs and stochastic depth are drawn within this loss.
    for model in (swin_mask_rcnn, retinanet):
        detector = built(model)
        before = {k: v.clone() for k, v in detector.state_dict().items()}
        state = torch.get_rng_state()
        first = images.losses(detector)
        assert torch.equal(state, torch.get_rng_state())
        torch.rand(7)
        assert (images.losses(detector) == first).all()
        anew = TrainingImages(cfg, 4, seed=1)
        assert (anew.losses(detector) == first).all()
        other = TrainingImages(cfg, 4, seed=2)
        assert (other.losses(detector) != first).any()
        # Batch norms keep their statistics and do not count.
        assert all(torch.equal(v, before[k])
                   for k, v in detector.state_dict().items())


def test_flips_are_drawn_once_by_the_training_pipeline(toy):
    flips = [sample.metainfo['flip'] for batch in TrainingImages(
        toy(), 24, seed=0)._batches for sample in batch['data_samples']]
    assert len(flips) == 24 and {True, False} == set(flips)
