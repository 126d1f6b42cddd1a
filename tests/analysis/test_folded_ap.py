"""AP without a fold, against an evaluation that never had its images."""
import copy
import json

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from mtpd.analysis.folded_ap import folded_ap
from mtpd.search.measure import box_ap, validation_config


class NearlyRight(nn.Module):
    """Predicts what is annotated, moved by some pixels, image by image."""

    def val_step(self, batch) -> list:
        samples = copy.deepcopy(batch['data_samples'])
        for sample in samples:
            generator = torch.Generator().manual_seed(int(sample.img_id))
            truth = sample.gt_instances
            boxes = truth.bboxes.tensor if hasattr(truth.bboxes, 'tensor') \
                else truth.bboxes
            factor = boxes.new_tensor(sample.scale_factor).repeat(2)
            sample.pred_instances = InstanceData(
                bboxes=boxes / factor + 4 * torch.rand(
                    boxes.shape, generator=generator),
                labels=truth.labels,
                scores=torch.rand(len(boxes), generator=generator))
        return [sample.to_dict() for sample in samples]


def test_each_is_the_ap_of_the_other_images(toy, drawn, tmp_path):
    validation = validation_config(toy())
    found = folded_ap(NearlyRight(), copy.deepcopy(validation))
    path = drawn / 'annotations' / 'instances_val.json'
    whole = json.loads(path.read_text())
    assert len(found.without) == len(whole['images']) == 8
    assert found.ap == box_ap(NearlyRight(), copy.deepcopy(validation))
    assert 10 < found.ap < 90
    assert len(np.unique(found.without)) > 2
    for left_out in (0, 5):
        gone = whole['images'][left_out]['id']
        rest = {**whole,
                'images': [i for i in whole['images'] if i['id'] != gone],
                'annotations': [a for a in whole['annotations']
                                if a['image_id'] != gone]}
        part = tmp_path / f'{left_out}.json'
        part.write_text(json.dumps(rest))
        own = Config(copy.deepcopy(validation.to_dict()))
        own.loader.dataset.ann_file = str(part)
        own.evaluator.ann_file = str(part)
        assert found.without[left_out] == box_ap(NearlyRight(), own)
