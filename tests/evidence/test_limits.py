"""The student with some of the labels: which, how long, and its two APs."""
import pytest
from evidence.jobs import job, limits
from evidence.jobs.limits import Limit
from mmdet.registry import DATASETS, METRICS


@pytest.fixture
def limit(toy, tmp_path, monkeypatch):
    """Eight of 24 labels, in a folder of its own."""
    monkeypatch.setattr(limits, 'config_of', lambda dataset, name: toy())
    monkeypatch.setattr(job, 'WEIGHTS', tmp_path)
    return Limit('txl', 8)


def test_the_length_is_the_same_with_any_number_of_labels(limit, monkeypatch):
    monkeypatch.setattr(limits, 'STEPS', 12)
    assert limit.config().train_dataloader.dataset.indices == [
        0, 3, 6, 9, 12, 15, 18, 21]
    for labels, epochs in ((8, 12), (9, 6), (24, 4)):
        cfg = Limit('txl', labels).config()
        assert cfg.train_cfg.max_epochs == cfg.train_cfg.val_interval \
            == cfg.param_scheduler[1].T_max == epochs


def test_it_is_tested_on_the_images_that_it_was_trained_on(limit,
                                                           monkeypatch):
    """All boxes of those images, and no others, with the test pipeline."""
    seen = []

    def evaluate(cfg, checkpoint):
        seen.extend((cfg, checkpoint))
        return {'coco/bbox_mAP': .25}

    monkeypatch.setattr(limits, 'evaluate_checkpoint', evaluate)
    limit.folder.mkdir(parents=True)
    assert limit.ap_on_training() == 25
    cfg, checkpoint = seen
    assert checkpoint == limit.weights
    trained = DATASETS.build(limit.config().train_dataloader.dataset)
    tested = DATASETS.build(cfg.test_dataloader.dataset)
    assert tested.test_mode and len(tested) == len(trained) == 8
    for i in range(8):
        one, other = tested[i]['data_samples'], trained.get_data_info(i)
        assert one.img_path == other['img_path']
        assert len(one.gt_instances) == len(other['instances']) > 0
    truth = METRICS.build(cfg.test_evaluator)._coco_api
    assert set(truth.getImgIds()) == {
        tested[i]['data_samples'].img_id for i in range(8)}
    assert len(truth.getAnnIds()) == sum(
        len(trained.get_data_info(i)['instances']) for i in range(8))
