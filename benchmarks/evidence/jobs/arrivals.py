"""What of a teacher arrives in its student, at the end of a stage."""
import copy
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

import torch
from mmdet.registry import DATASETS, METRICS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader, Subset

from mtpd.compat.checkpoints import read_checkpoint
from mtpd.distill import FeatureDistiller
from mtpd.distill.pyramid import Features, by_stride
from mtpd.stage.resume import newest_checkpoint

from .job import Job
from .students import Node
from .training import made_with

WHO = ('teacher', 'its_head', 'student')
"""Whose AP is measured: the second is the teacher's head on the adapted
student's maps."""
IMAGES = 244
"""At most so many of each split."""


@dataclass(frozen=True)
class Arrival(Job):
    """How near the student's maps come to the teacher's, and what the
    teacher's head finds in them, on images that the student was trained on
    and on others.

    Attributes:
        node: A student after a stage with one teacher.
    """
    node: Node

    @property
    def dataset(self) -> str:
        return self.node.dataset

    @property
    def name(self) -> str:
        return f'arrives_{self.node.name}'

    @property
    def needs(self) -> tuple[Job, ...]:
        return (self.node,)

    def measure(self) -> dict[str, Any]:
        stage, = self.node.folder.glob('stage*')
        cfg = Config.fromfile(next(stage.glob('*.py')))
        distiller = with_adapters(cfg, newest_checkpoint(str(stage)))
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        return {'node': self.node.name, 'made_with': made_with(),
                **{split: measured(distiller, loader, folder / 'seen.json')
                   for split, loader in splits(cfg)}}


def with_adapters(cfg: Config, checkpoint: str) -> FeatureDistiller:
    """A stage's model in test mode.

    Args:
        cfg: The stage's.
        checkpoint: Of the stage, with what is trained beside the student.
    """
    distiller = MODELS.build(cfg.model)
    saved = read_checkpoint(checkpoint)
    distiller.load_state_dict(saved['state_dict'])
    distiller.training_parts().load_state_dict(saved['mtpd']['training_parts'])
    return distiller.eval()


def splits(cfg: Config) -> Iterator[tuple[str, DataLoader]]:
    """'training' and 'validation' -> images as in a test.

    Args:
        cfg: A stage's.
    """
    as_tested = cfg.val_dataloader.dataset
    for split, own in (('training', cfg.train_dataloader.dataset),
                       ('validation', as_tested)):
        dataset = copy.deepcopy(as_tested)
        dataset.update({key: own[key] for key in (
            'ann_file', 'data_prefix', 'indices') if key in own})
        built = DATASETS.build(dataset)
        count = min(IMAGES, len(built))
        yield split, DataLoader(
            Subset(built, [len(built) * place // count
                           for place in range(count)]),
            batch_size=8, collate_fn=pseudo_collate)


@torch.no_grad()
def measured(distiller: FeatureDistiller, loader: DataLoader, file: Path
             ) -> dict[str, Any]:
    """The APs of :data:`WHO` in percent, and what is not matched: stride ->
    squared distance of the adapted maps from the teacher's over the variance
    of the teacher's (mean over channels).

    Args:
        distiller: In test mode, with one teacher of the student's scale, both
            with dense heads.
        loader: Of a :class:`Subset` of a COCO data set.
        file: Where the annotations of these images are written.
    """
    branch, = distiller.guidances
    metrics = {who: metric_of(loader.dataset, file) for who in WHO}
    errors: dict[int, list[float]] = defaultdict(list)
    seen: dict[int, list[torch.Tensor]] = defaultdict(list)
    images = 0
    for data in loader:
        # As in training, so that the teacher's batch is made too.
        batch = distiller.data_preprocessor(data, True)
        inputs, samples = batch['inputs'], batch['data_samples']
        targets = branch.teacher(batch['teacher_inputs'][branch.name])
        maps = by_stride(distiller.student.extract_feat(inputs),
                         tuple(targets))
        adapted = {**targets, **branch.adapter(maps, targets)}
        for stride, target in targets.items():
            errors[stride].append(len(inputs) * (
                adapted[stride] - target).square().mean().item())
            seen[stride].append(target.transpose(0, 1).flatten(1))
        images += len(inputs)
        of_teacher = branch.teacher.detector.bbox_head
        for who, head, features in zip(
                WHO, (of_teacher, of_teacher, distiller.student.bbox_head),
                (targets, adapted, maps), strict=True):
            collect(metrics[who], head, features, samples)
    return {
        'not_matched': {
            stride: sum(errors[stride]) / images
            / torch.cat(maps, 1).var(1, correction=0).mean().item()
            for stride, maps in seen.items()},
        # mmdet's metric is empty where nothing is found.
        **{who: 100 * metric.evaluate(images).get('coco/bbox_mAP', 0.)
           for who, metric in metrics.items()}}


def metric_of(images: Subset, file: Path) -> Any:
    """mmdet's COCO metric of some images alone.

    Args:
        file: Where their annotations are written.
    """
    dataset = images.dataset
    ids = {dataset.get_data_info(place)['img_id'] for place in images.indices}
    annotations = json.loads(Path(dataset.ann_file).read_text())
    for part, key in ('images', 'id'), ('annotations', 'image_id'):
        annotations[part] = [
            one for one in annotations[part] if one[key] in ids]
    file.write_text(json.dumps(annotations))
    metric = METRICS.build(dict(type='CocoMetric', ann_file=str(file),
                                metric='bbox'))
    metric.dataset_meta = dataset.metainfo
    return metric


def collect(metric: Any, head: Any, maps: Features,
            samples: list[Any]) -> None:
    """Give a metric what a head finds in some maps."""
    samples = copy.deepcopy(samples)
    for sample, found in zip(
            samples, head.predict(tuple(maps.values()), samples, rescale=True),
            strict=True):
        sample.pred_instances = found
    metric.process({}, [sample.to_dict() for sample in samples])
