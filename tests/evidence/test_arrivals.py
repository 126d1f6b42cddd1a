"""What of a teacher arrives, against sums by hand and heads that know all."""
import numpy as np
import pytest
import torch
from evidence.jobs.arrivals import WHO, measured, splits, with_adapters
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch.utils.data import DataLoader, Subset

from mtpd.stage.resume import newest_checkpoint


@pytest.fixture(scope='module')
def stage(two_runs):
    """A stage taught by a RetinaNet: its model and images."""
    folder, = two_runs[0].glob('stage*wide')
    cfg = Config.fromfile(next(folder.glob('*.py')))
    return (with_adapters(cfg, newest_checkpoint(str(folder))),
            dict(splits(cfg)))


def test_distances_are_those_of_all_maps_together(stage, tmp_path):
    distiller, loaders = stage
    branch, = distiller.guidances
    for split, loader in loaders.items():
        assert len(loader.dataset) == (24 if split == 'training' else 8)
        found = measured(distiller, loader, tmp_path / 'seen.json')
        adapted, targets = {}, {}
        for place in range(len(loader.dataset)):
            batch = distiller.data_preprocessor(
                loader.collate_fn([loader.dataset[place]]), True)
            with torch.no_grad():
                maps = dict(zip((8, 16, 32, 64, 128), distiller.extract_feat(
                    batch['inputs'])))
                wanted = branch.teacher(batch['teacher_inputs']['wide'])
                for stride, one in branch.adapter(maps, wanted).items():
                    adapted.setdefault(stride, []).append(one[0].numpy())
                    targets.setdefault(stride, []).append(
                        wanted[stride][0].numpy())
        assert list(found['not_matched']) == list(targets)
        for stride, value in found['not_matched'].items():
            one, other = (np.float64(parts[stride])
                          for parts in (adapted, targets))
            variance = other.transpose(1, 0, 2, 3).reshape(
                other.shape[1], -1).var(1).mean()
            assert value == pytest.approx(
                ((one - other) ** 2).mean() / variance, rel=1e-4)


def test_aps_are_of_these_images_and_of_the_right_maps(stage, tmp_path,
                                                       monkeypatch):
    """Heads that find every box of two images, none, or those of the first."""
    distiller, loaders = stage
    branch, = distiller.guidances
    seen = []

    def finding(knows):
        def predict(maps, samples, rescale):
            seen.append(maps[0])
            sample, = samples
            truth = sample.gt_instances
            known = torch.ones(len(truth), dtype=torch.bool) \
                & knows(len(seen) - 1)
            boxes = truth.bboxes / torch.tensor(sample.scale_factor * 2)
            return [InstanceData(bboxes=boxes[known], scores=boxes[known, 0],
                                 labels=truth.labels[known])]
        return predict

    # For each image: the teacher, its head on the student's maps, the student.
    monkeypatch.setattr(branch.teacher.detector.bbox_head, 'predict',
                        finding(lambda call: call % 3 == 0))
    monkeypatch.setattr(distiller.student.bbox_head, 'predict',
                        finding(lambda call: call < 3))
    dataset = loaders['validation'].dataset.dataset
    found = measured(distiller, DataLoader(
        Subset(dataset, [1, 4]), batch_size=1, collate_fn=pseudo_collate),
        tmp_path / 'seen.json')
    assert set(found) == {'not_matched', *WHO}
    assert found['teacher'] == 100
    assert found['its_head'] == 0
    assert 0 < found['student'] < 100
    assert [maps.shape[1] for maps in seen] == [24, 24, 16] * 2
    for own, adapted in (seen[:2], seen[3:5]):
        assert not torch.equal(own, adapted)
