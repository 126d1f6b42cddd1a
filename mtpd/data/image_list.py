"""A data set's config as a plain list of its images."""
from mmengine.config import ConfigDict


def with_each_image_once(dataset: ConfigDict, steps: list,
                         test_mode: bool = False) -> ConfigDict:
    """A data set's config that has each image once, also those without
    boxes, and prepares it by these steps.

    Args:
        dataset: The config, also of wrapped data sets; it is not changed.
        steps: The pipeline.
        test_mode: Whether a step may not ask for another image.
    """
    dataset = dataset.copy()
    if 'datasets' in dataset:
        dataset.datasets = [with_each_image_once(inner, steps, test_mode)
                            for inner in dataset.datasets]
        dataset.pop('pipeline', None)
    elif 'dataset' in dataset:
        # A repeated or mixed data set has no other images than its own.
        return with_each_image_once(dataset.dataset, steps, test_mode)
    else:
        dataset.pipeline = steps
        dataset.test_mode = test_mode
        # It then filters nothing, and XMLDataset refuses to be asked for it.
        dataset.pop('filter_cfg', None)
    return dataset
