"""Samples of images some of which cannot be read."""
import logging
from typing import Any, Callable

from mmengine.logging import print_log

from mtpd.compat.samples import Sample, sample_of


IN_A_ROW = 5
"""So many images in which a step fails are no odd ones: the step is wrong."""


def readable_sample(dataset: Any, image: int,
                    replaced: Callable[[Sample, Exception], Any]
                    = lambda sample, error: None) -> Any:
    """What the pipeline makes of an image, or of the next one that it can
    take; after the last comes the first.

    Args:
        dataset: Of mmengine, its pipeline one of mmengine's ``Compose``.
        image: Its index.
        replaced: Called for each image that cannot be loaded, or of which a
            step can make nothing, such as a resize of one of 2000x1 pixels.

    Raises:
        Exception: No image can be loaded, or a step fails for
            :data:`IN_A_ROW` images that can.
        IndexError: There is no image.
    """
    count, loaded = len(dataset), 0
    for offset in range(count):
        try:
            return dataset[(image + offset) % count]
        except Exception as error:
            failed = sample_of(error)
            if failed is None or offset == count - 1:
                raise
            loaded += not fails_to_load(failed)
            if loaded == IN_A_ROW:
                raise
            replaced(failed, error)
    raise IndexError('The data set has no image.')


def next_is_taken(sample: Sample, error: Exception) -> None:
    """Warn of an image without labels that is replaced by the next one."""
    print_log(f'mtpd.unlabelled: {sample.image} cannot be used ({error}); the '
              'next image is taken in its place.', logger='current',
              level=logging.WARNING)


def fails_to_load(sample: Sample) -> bool:
    """Whether the step that failed was to read the image's file."""
    return sample.step.startswith('Load')
