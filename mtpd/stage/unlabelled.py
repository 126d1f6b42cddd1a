"""Images without labels beside the labelled ones of each step."""
from typing import Any, Callable, Mapping, NamedTuple, Sequence

import numpy as np
from mmdet.registry import DATASETS
from mmengine.dist import get_rank, get_world_size

from mtpd.data.readable import next_is_taken, readable_sample
from mtpd.randomness import seed_generators

# Beside those of mtpd.stage.seeding.
_ORDER, _SAMPLE = 5, 6

BATCH_KEY = 'unlabelled'
"""The key of a batch that holds its images without labels, collated as the
labelled ones are."""


class UnlabelledKey(NamedTuple):
    """One use of an image.

    Attributes:
        passes: How often all images have been taken before.
        image: Its index.
    """
    passes: int
    image: int


class UnlabelledSample(NamedTuple):
    """What a pipeline has made of an image without labels."""
    content: Any


class UnlabelledStream:
    """Which images without labels each step takes, and their samples.

    All images are taken once in a random order, then once more in another,
    and so on, across epochs; processes share one order. What a step takes
    follows from the seed, the stage and the iteration, whatever was done
    before.

    Args:
        dataset: The config of the data set, or the data set.
        batch_size: Images of each step and process.
        seed: The run's.
        stage: The progression's stage, from 1.
    """

    def __init__(self, dataset: Any, batch_size: int, seed: int,
                 stage: int) -> None:
        if isinstance(dataset, Mapping):
            dataset = DATASETS.build(dataset)
        self._dataset = dataset
        self._batch_size = batch_size
        self._key = seed, stage
        self._rank, self._processes = get_rank(), get_world_size()
        self._orders: dict[int, np.ndarray] = {}

    def keys(self, iteration: int) -> list[UnlabelledKey]:
        """The images of a step.

        Args:
            iteration: Of the stage, from 0.
        """
        step = iteration * self._processes + self._rank
        keys = []
        for place in range(step * self._batch_size,
                           (step + 1) * self._batch_size):
            passes, index = divmod(place, len(self._dataset))
            keys.append(UnlabelledKey(passes, int(self._order(passes)[index])))
        return keys

    def sample(self, key: UnlabelledKey) -> UnlabelledSample:
        """What the pipeline makes of an image. In place of one that cannot be
        loaded the next one is taken, with a warning.

        Raises:
            Exception: Any step but the loading fails, or no image can be
                loaded.
        """
        seed_generators(_SAMPLE, *self._key, *key)
        return UnlabelledSample(
            readable_sample(self._dataset, key.image, next_is_taken))

    def _order(self, passes: int) -> np.ndarray:
        if passes not in self._orders:
            # A step touches two of them at most, or as many as it needs.
            self._orders = {p: order for p, order in self._orders.items()
                            if p == passes - 1}
            generator = np.random.default_rng((_ORDER, *self._key, passes))
            self._orders[passes] = generator.permutation(len(self._dataset))
        return self._orders[passes]


class CollateApart:
    """Collates the samples without labels by themselves.

    The rest of a batch is what it is without them, and ``BATCH_KEY`` beside
    it.

    Args:
        collate: The loader's.
    """

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self._collate = collate

    def __call__(self, samples: Sequence[Any]) -> Any:
        labelled, unlabelled = [], []
        for sample in samples:
            if isinstance(sample, UnlabelledSample):
                unlabelled.append(sample.content)
            else:
                labelled.append(sample)
        batch = self._collate(labelled)
        if unlabelled:
            batch[BATCH_KEY] = self._collate(unlabelled)
        return batch
