"""Samples of images some of which cannot be read."""
import logging
from typing import Any, Callable

from mmengine.logging import print_log

from mtpd.compat.samples import Sample, sample_of


def readable_sample(dataset: Any, image: int,
                    replaced: Callable[[Sample, Exception], Any]
                    = lambda sample, error: None) -> Any:
    """What the pipeline makes of an image, or of the next one that can be
    loaded; after the last comes the first.

    Args:
        dataset: Of mmengine, its pipeline one of mmengine's ``Compose``.
        image: Its index.
        replaced: Called for each image that cannot be loaded.

    Raises:
        Exception: Any step but the loading fails, or no image can be loaded.
        IndexError: There is no image.
    """
    count = len(dataset)
    for offset in range(count):
        try:
            return dataset[(image + offset) % count]
        except Exception as error:
            failed = sample_of(error)
            if failed is None or not fails_to_load(failed) \
                    or offset == count - 1:
                raise
            replaced(failed, error)
    raise IndexError('The data set has no image.')


def next_is_taken(sample: Sample, error: Exception) -> None:
    """Warn of an image without labels that is replaced by the next one."""
    print_log(f'mtpd.unlabelled: {sample.image} cannot be read ({error}); the '
              'next image is taken in its place.', logger='current',
              level=logging.WARNING)


def fails_to_load(sample: Sample) -> bool:
    """Whether the step that failed was to read the image's file."""
    return sample.step.startswith('Load')
