"""The check of the images without labels, before anything is trained."""
import os
from typing import Any, Mapping, NamedTuple, Sequence

from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.dist import get_world_size

from mtpd.compat.samples import Sample, sample_of
from mtpd.config_types import dict_of, type_name
from mtpd.data.image_files import IMAGES, has_header
from mtpd.data.readable import fails_to_load, readable_sample
from mtpd.distill.hooks.fade import FadeDistillHook
from mtpd.distill.teacher_view.steps import unsupported_steps
from mtpd.plan.errors import PlanError
from mtpd.plan.paths import looked_in
from mtpd.plan.plan import Plan
from mtpd.plan.registered import unlabelled_part_problems
from mtpd.plan.settings import UnlabelledSettings
from mtpd.plan.unlabelled import (dataset_config, images_per_step,
                                  pipeline_of, read_entries)
from mtpd.randomness import isolate_rng

from .files import not_on_disk
from .leaks import equal_files, leaks, path_of, some_of
from .reading import images_of
from .sources import Source, inner_datasets, registered

FIELD = 'mtpd.unlabelled'
_CURE = f'Set {FIELD}.pipeline to steps that need no labels.'
_NO_BOXES = "Add dict(type='LoadEmptyAnnotations') behind the step that " \
    'loads the image, for steps that look for boxes, or take this step out.'


class Findings(NamedTuple):
    """What was found in data.

    Attributes:
        problems: What stops a run, one message each.
        notes: What a user should know.
    """
    problems: list[str]
    notes: list[str]


def check_unlabelled(plan: Plan, paths: Mapping[str, Sequence[str] | None],
                     batches: int | None) -> Findings:
    """Whether the images can be trained on, and how many they are.

    The header of each file is read, and one image goes through the pipeline.
    Files are compared with those of the other sets by their sizes, and where
    these are equal by their bytes.

    Args:
        plan: The progression, with ``unlabelled`` set.
        paths: 'train', 'val' and 'test' -> their image files; None where
            they cannot be known.
        batches: Of labelled images, in an epoch and process; None if unknown.
    """
    settings = plan.unlabelled
    assert settings is not None
    problems = source_problems(settings, plan.student.config.filename) \
        + unlabelled_part_problems(settings.dataset, settings.pipeline)
    if problems:
        return Findings(problems, [])
    entries, problems = entries_of(settings)
    problems = problems or file_problems(settings, entries) or [
        *leaks(entries, paths), *pipeline_problems(plan, settings)]
    if problems:
        return Findings(problems, [])
    return Findings([], _notes(plan, settings, entries, paths, batches))


def entries_of(settings: UnlabelledSettings
               ) -> tuple[list[dict[str, Any]], list[str]]:
    """What the data set knows of each image, or why it cannot be read."""
    try:
        return read_entries(settings), []
    except Exception as error:  # a data set of any library may raise any
        cure = 'Correct it' if not settings.dataset else \
            'This data set reads its labels first; to need none, name its ' \
            'images by folder, or by ann_file and folder, instead'
        return [], [f'{FIELD}: {place_of(settings)} cannot be read '
                    f'({in_one_line(error)}). {cure}.']


def test_paths(cfg: Config) -> list[str] | None:
    """The image files of a config's test set, apart from its validation set;
    None if it cannot be read: no run needs it."""
    validated = datasets_of(cfg, 'val_dataloader')
    paths: list[str] = []
    for dataset in datasets_of(cfg, 'test_dataloader'):
        if dataset in validated:
            continue
        source = Source('test_dataloader.dataset', dataset, 'test_dataloader',
                        registered(dataset.get('type')))
        try:
            paths += map(path_of, images_of(source, None))
        except PlanError:
            return None
    return paths


def datasets_of(cfg: Config, loader: str) -> list[ConfigDict]:
    """The data sets of a loader; none where the config has no such loader."""
    dataset = dict_of(cfg, loader).get('dataset')
    if not dataset:
        return []
    return [inner for _, inner in inner_datasets(dataset, loader)]


vars(test_paths)['__test__'] = False  # pytest would run it for its name


def place_of(settings: UnlabelledSettings) -> str:
    """Where the images come from, in words."""
    return settings.ann_file or settings.folder or type_name(
        (settings.dataset or {}).get('type'))


def source_problems(settings: UnlabelledSettings,
                     config: str | None) -> list[str]:
    """Settings that name no images, or two kinds of them, or what is not
    there."""
    others = settings.folder or settings.ann_file
    if bool(settings.dataset) == bool(others):
        return [f'{FIELD} sets ' + (
            'dataset beside folder or ann_file' if others else
            'no images') + '. Set folder, ann_file (with the folder that its '
            'file names start from), or dataset.']
    return missing_file(settings, config) + missing_folder(settings, config)


def missing_file(settings: UnlabelledSettings,
                 config: str | None) -> list[str]:
    """That ``ann_file`` is no file."""
    path = settings.ann_file
    if not path or os.path.isfile(path):
        return []
    return [f'{FIELD}.ann_file: there is no file {path}'
            f'{looked_in(path, config)}.']


def missing_folder(settings: UnlabelledSettings,
                   config: str | None) -> list[str]:
    """That ``folder`` is no folder."""
    path = settings.folder
    if not path or os.path.isdir(path):
        return []
    kind = 'this is no folder' if os.path.exists(path) else \
        'there is no folder'
    return [f'{FIELD}.folder: {kind}: {path}{looked_in(path, config)}. Name a '
            'folder of images.']


def file_problems(settings: UnlabelledSettings,
                  entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """That there are no images, or that some are not there or none."""
    if not entries:
        return [no_images(settings)]
    return absent_files(settings, entries) or broken_files(entries)


def absent_files(settings: UnlabelledSettings,
                 entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """That images are not there."""
    missing = not_on_disk(entries)
    if not missing:
        return []
    cure = f', or set {FIELD}.folder to the folder that the file names ' \
        'start from' if settings.ann_file else ''
    return [f'{FIELD}: {len(missing)} of {len(entries)} images are missing, '
            f'the first is {missing[0]}. Complete them{cure}.']


def broken_files(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """That files are no images."""
    broken = [path for path in map(path_of, entries)
              if path and not has_header(path)]
    if not broken:
        return []
    return [f'{FIELD}: {len(broken)} of {len(entries)} files cannot be read '
            f'as images: {some_of(broken)}. Repair or remove them.']


def no_images(settings: UnlabelledSettings) -> str:
    """That there are none, in words."""
    if settings.folder and not settings.ann_file:
        return (f'{FIELD}: {settings.folder} has no image. Files with these '
                f'endings are taken: {" ".join(sorted(IMAGES))}')
    return (f'{FIELD}: {place_of(settings)} has no image. Add some, or take '
            f'{FIELD} out.')


def pipeline_problems(plan: Plan, settings: UnlabelledSettings) -> list[str]:
    """Why the first image that can be read does not come through the
    pipeline."""
    steps = pipeline_of(settings, plan.student.config).steps
    if any(plan.teachers[name].scale != 1 for name in plan.used):
        problems = unsupported_steps(steps)
        if problems:
            return [f'{FIELD}: {problem}' for problem in problems]
    try:
        with isolate_rng(0):
            sample = readable_sample(
                DATASETS.build(dataset_config(settings, steps)), 0)
    except Exception as error:  # whatever a step may raise
        failed = sample_of(error)
        if failed is not None and fails_to_load(failed):
            return [f'{FIELD}: no image can be read, the last is '
                    f'{failed.image} ({in_one_line(error)}). Repair or remove '
                    f'them, or correct the step {failed.step} of the '
                    'pipeline.']
        where = 'the pipeline' if failed is None else \
            f'the step {failed.step} of the pipeline'
        cure = _NO_BOXES if settings.pipeline else _CURE
        return [f'{FIELD}: {where} does not work for '
                f'{image_in_words(failed)} ({in_one_line(error)}). {cure}']
    return shape_problems(sample)


def image_in_words(failed: Sample | None) -> str:
    """Which image a step failed for."""
    if failed is None:
        return 'an image without labels'
    return f'images without labels, such as {failed.image}'


def in_one_line(error: Exception) -> str:
    """``ValueError: what it says first``."""
    return ': '.join([type(error).__name__, *str(error).splitlines()[:1]])


def shape_problems(sample: Any) -> list[str]:
    """That a pipeline's result holds no image of three channels."""
    image = sample.get('inputs') if isinstance(sample, Mapping) else None
    shape = tuple(getattr(image, 'shape', ()))
    if len(shape) != 3 or shape[0] != 3:
        return [f'{FIELD}: its pipeline gives images of shape {shape}; '
                'expected (3, height, width) under "inputs", as PackDetInputs '
                "gives them. Load images with color_type='color', and pack "
                f'them. {_CURE}']
    return []


def _notes(plan: Plan, settings: UnlabelledSettings,
           entries: Sequence[Mapping[str, Any]],
           paths: Mapping[str, Sequence[str] | None],
           batches: int | None) -> list[str]:
    """How many images there are, how often each is taken, and how their
    pipeline differs from the student's."""
    cfg = plan.student.config
    notes = [describe_passes(len(entries), images_per_step(settings, cfg),
                             cfg, batches, plan.fade)]
    notes += [f'{FIELD}: {note}.'
              for note in pipeline_of(settings, cfg).notes]
    if paths.get('test') is None:
        notes.append(f'{FIELD}: the test set of the config cannot be read, so '
                     'the images were not compared with it.')
    same = equal_files(map(path_of, entries), paths.get('train') or ())
    if same:
        notes.append(f'{FIELD}: {len(same)} images are also among the '
                     'labelled training images. This is allowed.')
    return notes


def describe_passes(images: int, per_step: int, cfg: Config,
                    batches: int | None,
                    fade: Mapping[str, Any] | None = None) -> str:
    """How many images there are, and how often an epoch passes through them.

    Args:
        images: Their number.
        per_step: Of a step and process.
        cfg: The student's config.
        batches: As in :func:`check_unlabelled`.
        fade: ``mtpd.fade``.
    """
    processes = get_world_size()
    each = '' if processes == 1 else f' of each of {processes} processes'
    text = f'{FIELD}: {images} images, {per_step} in each step{each}'
    steps, span = cfg.train_cfg.get('max_iters'), 'a stage'
    if steps is None:
        steps, span = batches, 'an epoch'
    if steps is None:
        return f'{text}.'
    taken = steps if fade is None else min(steps, FadeDistillHook(
        **fade).iterations(steps if batches is None else batches))
    early = f' takes them in the first {taken}, which' * (taken < steps)
    passes = taken * per_step * processes / images
    return (f'{text}; {span} of {steps} steps{early} passes {passes:.3g} '
            'times through them.')


def without_use(plan: Plan) -> Findings:
    """What is wrong with, or said about, images that are not trained on."""
    if plan.unlabelled is None and plan.costs.split == 'unlabelled':
        return Findings(["mtpd.costs.split is 'unlabelled', and "
                         f'{FIELD} is not set. Set it, or another split.'],
                        [])
    if plan.unlabelled is not None and not plan.distils:
        return Findings([], [f'{FIELD} is not used: without a teacher '
                             '(mtpd.distill has weight 0) nothing can be '
                             'learned from images without labels.'])
    return Findings([], [])
