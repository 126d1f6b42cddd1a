"""``mtpd.unlabelled`` as a data set, and its hash."""
import hashlib
import os
from typing import Any, Sequence

from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict

from mtpd.data.image_list import with_each_image_once
from mtpd.plan.settings import UnlabelledSettings

from .pipeline import UnlabelledPipeline, unlabelled_pipeline


def pipeline_of(settings: UnlabelledSettings,
                cfg: Config) -> UnlabelledPipeline:
    """The images' own pipeline, or the one that follows from the student's.

    Args:
        settings: ``mtpd.unlabelled``.
        cfg: The student's config.
    """
    if settings.pipeline:
        return UnlabelledPipeline(list(settings.pipeline), [])
    return unlabelled_pipeline(cfg)


def dataset_config(settings: UnlabelledSettings,
                   steps: Sequence[Any]) -> ConfigDict:
    """The config of the data set.

    Args:
        settings: ``mtpd.unlabelled``, with paths as they are found.
        steps: Its pipeline.
    """
    if settings.dataset:
        return with_each_image_once(ConfigDict(settings.dataset), list(steps))
    folder = settings.folder or os.path.dirname(settings.ann_file or '')
    return ConfigDict(
        type='UnlabelledImages', ann_file=settings.ann_file or '',
        data_prefix=dict(img=folder), pipeline=list(steps))


def images_per_step(settings: UnlabelledSettings, cfg: Config) -> int:
    """Images of a step and process.

    Args:
        settings: ``mtpd.unlabelled``.
        cfg: The student's config.
    """
    return settings.batch_size or cfg.train_dataloader.get('batch_size', 1)


def training_part(settings: UnlabelledSettings,
                  cfg: Config) -> dict[str, Any]:
    """What a stage's loop is given.

    Args:
        settings: ``mtpd.unlabelled``, with paths as they are found.
        cfg: The student's config.
    """
    return dict(
        dataset=dataset_config(settings, pipeline_of(settings, cfg).steps),
        batch_size=images_per_step(settings, cfg),
        batch_norm=settings.batch_norm)


def read_entries(settings: UnlabelledSettings) -> list[dict[str, Any]]:
    """What the data set knows of each image; none is opened."""
    dataset = DATASETS.build(dataset_config(settings, []))
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def unlabelled_hash(settings: UnlabelledSettings) -> str:
    """A hash of the images' names and sizes in bytes. A file that is replaced
    by another one of the same size keeps it. What cannot be read, which the
    check of the data tells, has one too."""
    digest = hashlib.sha256()
    try:
        entries = read_entries(settings)
    except Exception:  # a data set of any library may raise any
        entries = []
    for entry in entries:
        path = entry.get('img_path', '')
        size = os.path.getsize(path) if os.path.isfile(path) else None
        digest.update(f'{entry.get("img_id")} {os.path.basename(path)} '
                      f'{size}\n'.encode(errors='surrogateescape'))
    return digest.hexdigest()[:16]
