"""The check of a config's data, before anything is trained."""
import os
from itertools import chain
from typing import Mapping, NamedTuple

from mmengine.config import Config

from mtpd.plan.paths import with_working_folder
from mtpd.plan.plan import Plan
from mtpd.processes import on_main

from .classes import head_problems, order_problems
from .files import missing_checkpoints
from .loaders import (batch_problems, batches_per_epoch, box_problems,
                      mask_problems, repeated_normalisation)
from .evaluators import (evaluator_problems, is_measured_by_coco,
                         metrics_of)
from .reading import FileReader, ReadSource
from .sources import LOADERS, Source, sources_of
from .unlabelled import Findings, check_unlabelled, test_paths, without_use


def missing_files(plan: Plan) -> list[str]:
    """What the plan needs and cannot find or use, one message each.

    Looks at checkpoints, annotation files, image folders and each image that
    the annotations name. URLs are looked at when they are fetched.
    """
    return missing_checkpoints(plan) + missing_data(plan)


def missing_data(plan: Plan, to_train: bool = True) -> list[str]:
    """The part of :func:`missing_files` that is about the data set: what is
    missing, and what does not agree.

    Args:
        plan: The progression.
        to_train: Whether the student is to be trained; the search for an
            order needs no labels of the training images.
    """
    return student_data(plan, to_train).problems


class StudentData(NamedTuple):
    """What was found in the student's data.

    Attributes:
        problems: What :func:`missing_data` says.
        batches: The number of batches of an epoch of training in each
            process; None if unknown.
        notes: What is said about images without labels.
    """
    problems: list[str]
    batches: int | None
    notes: list[str]


def student_data(plan: Plan, to_train: bool = True,
                 is_checked: bool = False) -> StudentData:
    """Look at the student's data.

    Args:
        plan: As in :func:`missing_data`, and so is ``to_train``.
        is_checked: Whether it was looked at already, and is not now.
    """
    cfg = plan.student.config
    if is_checked or not all(map(cfg.get, LOADERS)):
        return StudentData([], None, [])
    problems, reads = read_data({'': cfg}, to_train)
    train = [reads[source.field] for source in sources_of(cfg)
             if source.trains and source.field in reads]
    if cfg.get('model'):
        problems += repeated_normalisation(plan)
    batches = batches_per_epoch(cfg, train)
    found = of_unlabelled(plan, reads, batches, to_train)
    return StudentData(problems + found.problems, batches, found.notes)


def of_unlabelled(plan: Plan, reads: Mapping[str, ReadSource],
                  batches: int | None, to_train: bool) -> Findings:
    """What was found of images without labels.

    Args:
        plan: As in :func:`missing_data`, and so is ``to_train``.
        reads: What was read of the other data, by field.
        batches: See :class:`StudentData`.
    """
    used = (plan.distils and to_train) or plan.costs.split == 'unlabelled'
    if plan.unlabelled is None or not used:
        return without_use(plan)
    paths: dict[str, list[str] | None] = {'train': [], 'val': []}
    for read in reads.values():
        split = read.source.loader.removesuffix('_dataloader')
        paths[split] = [*(paths[split] or ()), *read.paths]
    paths['test'] = test_paths(plan.student.config)
    # The first process for all: files are opened and compared.
    return on_main(lambda: check_unlabelled(plan, paths, batches))


def data_problems(configs: Mapping[str, Config],
                  to_train: bool = True) -> list[str]:
    """What is missing or does not agree in the data of configs. Each
    annotation file is read once.

    Args:
        configs: The prefix of a config's fields in the messages -> the config.
        to_train: As in :func:`missing_data`.
    """
    return read_data(configs, to_train)[0]


def read_data(configs: Mapping[str, Config], to_train: bool
              ) -> tuple[list[str], dict[str, ReadSource]]:
    """The problems of :func:`data_problems`, and what was read, by field."""
    by_path: dict[str, list[Source]] = {}
    for owner, cfg in configs.items():
        for source in sources_of(cfg, owner):
            by_path.setdefault(os.path.realpath(source.path),
                               []).append(source)
    problems: list[str] = []
    reads: dict[str, ReadSource] = {}
    for sources in by_path.values():
        reader = FileReader(
            any(is_measured_by_coco(configs[source.owner])
                for source in sources if not source.trains), to_train)
        for source in sources:
            reader.read(source)
        reads.update(reader.reads)
        problems += reader.problems
    for owner, cfg in configs.items():
        problems += disagreements(owner, cfg, reads, to_train)
    paths = map(paths_of, configs.values())
    return with_working_folder(dict.fromkeys(problems), chain(*paths)), reads


def paths_of(cfg: Config) -> list[str]:
    """The files and folders that a config's data sets and evaluators read."""
    paths = [metric.get('ann_file') or '' for _, metric in metrics_of(cfg)]
    for source in sources_of(cfg):
        paths += source.paths
    return paths


def disagreements(owner: str, cfg: Config, reads: Mapping[str, ReadSource],
                  to_train: bool) -> list[str]:
    """What a config's data sets, heads and evaluators do not agree on.

    Args:
        owner: The prefix of the config's fields.
        cfg: The config.
        reads: What was read, by field. What needs a data set that could not
            be read is not looked at.
        to_train: As in :func:`missing_data`.
    """
    sources = list(sources_of(cfg, owner))
    by_loader: dict[str, list[ReadSource]] = {name: [] for name in LOADERS}
    for source in sources:
        if source.field in reads:
            by_loader[source.loader].append(reads[source.field])
    train, validation = (by_loader[name] for name in LOADERS)
    problems = class_problems(
        owner, cfg, (train if to_train else []) + validation)
    if len(train) + len(validation) < len(sources):
        return problems
    problems += box_problems(validation) \
        + evaluator_problems(cfg, owner, validation) \
        + mask_problems(cfg, validation)
    if to_train:
        problems += box_problems(train) + mask_problems(cfg, train) \
            + batch_problems(cfg, owner, by_loader)
    return problems


def class_problems(owner: str, cfg: Config,
                   reads: list[ReadSource]) -> list[str]:
    """Classes in another order or number than others expect."""
    named = [(read.source, read.classes, read.numbered) for read in reads
             if read.classes and read.numbered]
    problems = order_problems(named)
    if named and cfg.get('model'):
        source, classes, _ = named[0]
        problems += head_problems(cfg.model, owner, len(classes),
                                  f'{source.field}.metainfo.classes')
    return problems
