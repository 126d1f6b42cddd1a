"""What a student knows of its own training images, and of others."""
import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmdet.registry import DATASETS

from mtpd.predict.evaluation import evaluate_checkpoint
from mtpd.predict.test_set import use_validation_set

from .job import Job
from .training import config_of, describe_training, digest, train_plain

STEPS = 640
"""Of each training, about: in whole epochs."""


@dataclass(frozen=True)
class Limit(Job):
    """The student with some of the labels, tested on both splits.

    Attributes:
        labels: How many training images, evenly spaced, have theirs.
        seed: Of everything random.
    """
    dataset: str
    labels: int
    seed: int = 0

    @property
    def name(self) -> str:
        return f'limit_{self.labels}_seed{self.seed}'

    @property
    def weights(self) -> str:
        return str(self.folder / 'student.pth')

    def measure(self) -> dict[str, Any]:
        began = time.monotonic()
        cfg = self.config()
        train_plain(cfg, self.weights)
        return {'labels': self.labels, 'train_AP': self.ap_on_training(),
                'weights': digest(self.weights),
                **describe_training(cfg, cfg.work_dir, began)}

    def config(self) -> Config:
        """Of the training."""
        cfg = config_of(self.dataset, 'student')
        cfg.work_dir = str(self.folder)
        cfg.randomness = dict(seed=self.seed)
        loader = cfg.train_dataloader
        images = len(DATASETS.build(copy.deepcopy(loader.dataset)))
        loader.dataset.indices = [
            images * i // self.labels for i in range(self.labels)]
        epochs = round(STEPS / -(-self.labels // loader.batch_size))
        cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
        cfg.param_scheduler[1].update(T_max=epochs)
        return cfg

    def ap_on_training(self) -> float:
        """Box AP in percent on the images that it was trained on."""
        cfg = self.config()
        dataset = cfg.train_dataloader.dataset
        labelled = DATASETS.build(copy.deepcopy(dataset))
        ids = {labelled.get_data_info(i)['img_id']
               for i in range(len(labelled))}
        cfg.work_dir = str(self.folder / 'test')
        ann_file = Path(self.folder.absolute(), 'seen.json')
        seen = json.loads(Path(labelled.ann_file).read_text())
        seen['images'] = [i for i in seen['images'] if i['id'] in ids]
        seen['annotations'] = [
            a for a in seen['annotations'] if a['image_id'] in ids]
        ann_file.write_text(json.dumps(seen))
        use_validation_set(cfg)
        cfg.test_dataloader.dataset.update(
            ann_file=str(ann_file), data_prefix=dataset.data_prefix)
        cfg.test_evaluator.ann_file = str(ann_file)
        return 100 * evaluate_checkpoint(cfg, self.weights)['coco/bbox_mAP']
