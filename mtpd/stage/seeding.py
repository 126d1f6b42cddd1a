"""Random numbers as a function of the position in a run.

mmengine 0.10.7 saves no generator's state, workers have generators of their
own, and an epoch always begins at its first batch; so a resumed run is another
run. Here nothing random is carried along: before every iteration and every
sample the generators are seeded from the run's seed and from what is about to
be done, which a resumed run knows as well.
"""
import math
from collections import Counter
from typing import Any, Iterable, Iterator, Mapping, Sequence

from torch.utils.data import DataLoader, Dataset

from mtpd.config_types import type_name
from mtpd.plan.errors import PlanError
from mtpd.randomness import (derived_seed, seed_everything,
                             seed_generators)

from .unlabelled import CollateApart, UnlabelledKey, UnlabelledStream

# The first number of a key keeps these streams apart, whatever follows.
_ITERATION, _SAMPLE, _EPOCH, _TRAINING_PARTS = 1, 2, 3, 4

STATEFUL = ('CachedMosaic', 'CachedMixUp', 'Albu', 'EarlyStoppingHook',
            'GroupMultiSourceSampler', 'DynamicRoIHead',
           'BatchSyncRandomResize')
"""Components whose state no checkpoint stores: mmdet's caches of images,
Albumentations' own generator, mmengine's patience, an endless sampler that
draws as it goes, Dynamic R-CNN's averages, the present size of YOLOX's
batches."""


def stateful_components(cfg: Mapping[str, Any],
                        other_steps: Sequence[Any] = ()) -> list[str]:
    """Those of :data:`STATEFUL` that a config trains with, so that a resumed
    run is not exactly the run without the stop.

    Args:
        cfg: The student's config.
        other_steps: Of the pipeline of images without labels.
    """
    types = set()
    parts = [other_steps, *(cfg.get(key) for key in (
        'train_dataloader', 'custom_hooks', 'default_hooks', 'model'))]
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
        unlabelled: The images without labels, if there are any.
    """

    def __init__(self, dataset: Any, seed: int, stage: int,
                 unlabelled: UnlabelledStream | None = None) -> None:
        self.__dict__.update(_dataset=dataset, _seed=seed, _stage=stage,
                             _unlabelled=unlabelled)

    def __getitem__(self, key: tuple[int, int, int] | UnlabelledKey) -> Any:
        """The sample of :class:`KeyedBatches`' (epoch, repetition, image), or
        of an image without labels."""
        if isinstance(key, UnlabelledKey):
            return self._unlabelled.sample(key)
        seed_generators(_SAMPLE, self._seed, self._stage, *key)
        return self._dataset[key[-1]]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    # mmdet's PipelineSwitchHook gives the data set another pipeline.
    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._dataset, name, value)

    def __reduce__(self) -> tuple:
        return type(self), (self._dataset, self._seed, self._stage,
                            self._unlabelled)


class KeyedBatches:
    """A batch sampler whose entries are (epoch, repetition, image), and after
    these the keys of the images without labels, if there are any.

    The order of the images is the inner sampler's; ``repetition`` counts how
    often an image has occurred in its epoch before. A resumed run skips the
    batches that were trained on by their indices and loads none of them.

    Args:
        batches: Batches of image indices.
        endless: Whether to begin anew after the last batch, for loops that
            count iterations and no epochs.
        unlabelled: The images without labels.
    """

    def __init__(self, batches: Any, endless: bool = False,
                 unlabelled: UnlabelledStream | None = None) -> None:
        self._batches = batches
        self._endless = endless
        self._unlabelled = unlabelled
        self._start = 0, 0
        self._iteration, self._until = 0, math.inf
        # mmengine's DistSamplerSeedHook tells it the epoch.
        self.sampler: Any = getattr(batches, 'sampler', None)

    @property
    def batch_size(self) -> int | None:
        """Images of a batch; None if the inner sampler does not say it."""
        return getattr(self._batches, 'batch_size', None)

    def start_from(self, epoch: int, batch: int, iteration: int = 0,
                   until: float = math.inf) -> None:
        """Where the next iterator begins.

        Args:
            epoch: From 0.
            batch: In this epoch, from 0; if endless, since the first epoch.
            iteration: Of this batch in the stage, from 0.
            until: The iteration from which on no images without labels are
                taken.
        """
        self._start = epoch, batch
        self._iteration, self._until = iteration, until

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        epoch, first = self._start
        if self._endless:
            return self._completed(self._passes(epoch, first))
        # All at once: a sampler may draw from the global generators, which
        # are seeded anew before each iteration.
        return self._completed(list(self._keyed(epoch, self._batches))[first:])

    def _completed(self, batches: Iterable[list[tuple[int, ...]]]
                   ) -> Iterator[list[tuple[int, ...]]]:
        """Batches with the images without labels of their iterations."""
        if self._unlabelled is None:
            return iter(batches)
        stream, until = self._unlabelled, self._until
        return ([*keys, *(stream.keys(iteration) if iteration < until else ())]
                for iteration, keys in enumerate(batches, self._iteration))

    def _passes(self, epoch: int,
                first: int) -> Iterator[list[tuple[int, ...]]]:
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
               ) -> Iterator[list[tuple[int, ...]]]:
        occurrences: Counter[int] = Counter()
        for batch in batches:
            keys: list[tuple[int, ...]] = []
            for image in map(int, batch):
                keys.append((epoch, occurrences[image], image))
                occurrences[image] += 1
            yield keys


def seeded_loader(loader: DataLoader, seed: int, stage: int,
                  endless: bool = False,
                  unlabelled: UnlabelledStream | None = None) -> DataLoader:
    """The same loader, its samples independent of history and of workers.

    Args:
        loader: Of a map-style data set.
        seed: The run's.
        stage: The progression's stage, from 1.
        endless: See :class:`KeyedBatches`.
        unlabelled: Images without labels, a few of which are added to each
            batch.
    """
    return DataLoader(
        SeededSamples(loader.dataset, seed, stage, unlabelled),
        batch_sampler=KeyedBatches(loader.batch_sampler, endless, unlabelled),
        num_workers=loader.num_workers,
        collate_fn=CollateApart(loader.collate_fn) if unlabelled
        else loader.collate_fn,
        pin_memory=loader.pin_memory, timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers)
