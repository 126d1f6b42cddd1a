"""Random numbers as a function of the position in a run.

mmengine 0.10.7 saves no generator's state, workers have generators of their
own, and an epoch always begins at its first batch; so a resumed run is another
run. Here nothing random is carried along: before every iteration and every
sample the generators are seeded from the run's seed and from what is about to
be done, which a resumed run knows as well.
"""
from collections import Counter
from typing import Any, Iterable, Iterator, Mapping, Sequence

from torch.utils.data import DataLoader, Dataset

from mtpd.config_types import type_name
from mtpd.plan.errors import PlanError
from mtpd.randomness import derived_seed, seed_everything

# The first number of a key keeps these streams apart, whatever follows.
_ITERATION, _SAMPLE, _EPOCH, _TRAINING_PARTS = 1, 2, 3, 4

STATEFUL = ('CachedMosaic', 'CachedMixUp', 'Albu', 'EarlyStoppingHook',
            'GroupMultiSourceSampler', 'DynamicRoIHead')
"""Components whose state no checkpoint stores: mmdet's caches of images,
Albumentations' own generator, mmengine's patience, an endless sampler that
draws as it goes, Dynamic R-CNN's averages."""


def stateful_components(cfg: Mapping[str, Any]) -> list[str]:
    """Those of :data:`STATEFUL` that a config trains with, so that a resumed
    run is not exactly the run without the stop."""
    types = set()
    parts = [cfg.get(key) for key in (
        'train_dataloader', 'custom_hooks', 'default_hooks', 'model')]
    while parts:
        part = parts.pop()
        if isinstance(part, (list, tuple)):
            parts.extend(part)
        elif isinstance(part, Mapping):
            types.add(type_name(part.get('type')))
            parts.extend(part.values())
    return [name for name in STATEFUL if name in types]


def seed_iteration(seed: int, stage: int, iteration: int, rank: int) -> None:
    """For everything random in one training step of one process."""
    seed_everything(_ITERATION, seed, stage, iteration, rank)


def seed_epoch(seed: int, stage: int, epoch: int) -> None:
    """For samplers that draw from the global generators. It is the same in
    all processes, since they share one drawn order."""
    seed_everything(_EPOCH, seed, stage, epoch)


def training_parts_seed(seed: int | None, stage: int) -> int:
    """Seed of the initial weights of adapters and mechanism.

    Args:
        seed: The run's; None, before one is drawn, counts as 0.
        stage: The progression's stage, from 1.
    """
    return derived_seed(_TRAINING_PARTS, seed or 0, stage)


class SeededSamples(Dataset):
    """A data set whose samples do not depend on what was loaded before.

    Everything else is the data set's own: reading and setting attributes
    reaches it.

    Args:
        dataset: Any map-style data set.
        seed: The run's.
        stage: The progression's stage, from 1.
    """

    def __init__(self, dataset: Any, seed: int, stage: int) -> None:
        self.__dict__.update(_dataset=dataset, _seed=seed, _stage=stage)

    def __getitem__(self, key: tuple[int, int, int]) -> Any:
        """The sample of :class:`KeyedBatches`' (epoch, repetition, image)."""
        seed_everything(_SAMPLE, self._seed, self._stage, *key)
        return self._dataset[key[-1]]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    # mmdet's PipelineSwitchHook gives the data set another pipeline.
    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._dataset, name, value)

    def __reduce__(self) -> tuple:
        return type(self), (self._dataset, self._seed, self._stage)


class KeyedBatches:
    """A batch sampler whose entries are (epoch, repetition, image).

    The order of the images is the inner sampler's; ``repetition`` counts how
    often an image has occurred in its epoch before. A resumed run skips the
    batches that were trained on by their indices and loads none of them.

    Args:
        batches: Batches of image indices.
        endless: Whether to begin anew after the last batch, for loops that
            count iterations and no epochs.
    """

    def __init__(self, batches: Any, endless: bool = False) -> None:
        self._batches = batches
        self._endless = endless
        self._start = 0, 0
        # mmengine's DistSamplerSeedHook tells it the epoch.
        self.sampler: Any = getattr(batches, 'sampler', None)

    def start_from(self, epoch: int, batch: int) -> None:
        """Where the next iterator begins.

        Args:
            epoch: From 0.
            batch: In this epoch, from 0; if endless, since the first epoch.
        """
        self._start = epoch, batch

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        epoch, first = self._start
        if self._endless:
            return self._passes(epoch, first)
        # All at once: a sampler may draw from the global generators, which
        # are seeded anew before each iteration.
        return iter(list(self._keyed(epoch, self._batches))[first:])

    def _passes(self, epoch: int,
                first: int) -> Iterator[list[tuple[int, int, int]]]:
        number = 0
        while True:
            before = number
            for keys in self._keyed(epoch, self._batches):
                if number >= first:
                    yield keys
                number += 1
            if number == before:
                raise PlanError([
                    'train_dataloader gave no batch in a pass over its '
                    'images, so that nothing can be trained. Set a smaller '
                    'batch_size, or drop_last=False.'])
            epoch += 1
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)

    @staticmethod
    def _keyed(epoch: int, batches: Iterable[Sequence[int]]
               ) -> Iterator[list[tuple[int, int, int]]]:
        occurrences: Counter[int] = Counter()
        for batch in batches:
            keys = []
            for image in map(int, batch):
                keys.append((epoch, occurrences[image], image))
                occurrences[image] += 1
            yield keys


def seeded_loader(loader: DataLoader, seed: int, stage: int,
                  endless: bool = False) -> DataLoader:
    """The same loader, its samples independent of history and of workers.

    Args:
        loader: Of a map-style data set.
        seed: The run's.
        stage: The progression's stage, from 1.
        endless: See :class:`KeyedBatches`.
    """
    return DataLoader(
        SeededSamples(loader.dataset, seed, stage),
        batch_sampler=KeyedBatches(loader.batch_sampler, endless),
        num_workers=loader.num_workers, collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory, timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers)
