"""The student's training pipeline for images without labels."""
import copy
from typing import Any, Mapping, NamedTuple, Sequence

from mtpd.config_types import dict_of, type_name
from mtpd.plan.settings import as_list

# What loads labels; mmdet's LoadEmptyAnnotations takes the place of the first
# one, so that steps that look at boxes find that there are none.
_LOAD_LABELS = frozenset({'LoadAnnotations', 'LoadPanopticAnnotations',
                          'LoadTrackAnnotations', 'LoadEmptyAnnotations'})
# They change nothing but labels.
_ABOUT_LABELS = frozenset({
    'FilterAnnotations', 'SegRescale', 'LoadProposals', 'LoadTextAnnotations',
    'RandomSamplingNegPos', 'GTBoxSubOne_GLIP'})
_PASTE_OBJECTS = frozenset({'CopyPaste', 'InstaBoost'})
_MIX_IMAGES = frozenset({'Mosaic', 'MixUp', 'CachedMosaic', 'CachedMixUp'})
_WHY = {**dict.fromkeys(_PASTE_OBJECTS, 'it pastes labelled objects'),
        **dict.fromkeys(_MIX_IMAGES, 'it mixes several images')}
# Step -> what lets it pass an image without boxes.
_CHANGES = {'RandomCrop': dict(allow_negative_crop=True)}


class UnlabelledPipeline(NamedTuple):
    """A pipeline, and how it differs from the student's.

    Attributes:
        steps: Their configs.
        notes: One sentence for each difference that changes images.
    """
    steps: list[Any]
    notes: list[str]


def unlabelled_pipeline(cfg: Mapping[str, Any]) -> UnlabelledPipeline:
    """The training pipeline of a config without what needs labels.

    Labels are not loaded, and steps that are about labels alone are left out
    without a word. Crops take any part of the image. Steps that paste objects
    or mix images are left out. Where images are mixed and the config has a
    pipeline without that for its last epochs (``PipelineSwitchHook``), that
    one is taken; what ``YOLOXModeSwitchHook`` skips is left out.

    Args:
        cfg: The student's config.
    """
    steps = _training_steps(dict_of(cfg, 'train_dataloader.dataset'))
    notes = []
    skipped: set[str] = set()
    if _MIX_IMAGES & set(_names(steps)):
        for hook in as_list(cfg.get('custom_hooks')):
            kind = type_name(hook.get('type'))
            if kind == 'PipelineSwitchHook':
                steps = list(hook['switch_pipeline'])
                notes.append("the pipeline is PipelineSwitchHook's, since the "
                             'other one mixes several images')
            elif kind == 'YOLOXModeSwitchHook':
                skipped.update(hook.get('skip_type_keys', (
                    'Mosaic', 'RandomAffine', 'MixUp')))
    mixes = bool(_MIX_IMAGES & set(_names(steps)))
    kept = _without_labels(steps, skipped, mixes, notes)
    return UnlabelledPipeline(kept, list(dict.fromkeys(notes)))


def _training_steps(dataset: Mapping[str, Any]) -> list[Any]:
    """The steps of a data set and of what is wrapped in it, in order; of
    several data sets those of the first."""
    inner: list[Any] = []
    if dataset.get('datasets'):
        inner = _training_steps(dataset['datasets'][0])
    elif dataset.get('dataset'):
        inner = _training_steps(dataset['dataset'])
    return [*inner, *as_list(dataset.get('pipeline'))]


def _names(steps: Sequence[Any]) -> list[str]:
    """The types of steps, also of those within others."""
    names = []
    for step in steps:
        if isinstance(step, Mapping):
            names.append(type_name(step.get('type')))
            for inner in _lists_in(step).values():
                names += _names(inner)
        elif isinstance(step, (list, tuple)):
            names += _names(step)
    return names


def _lists_in(step: Mapping[str, Any]) -> dict[str, Any]:
    """The lists of steps that a step consists of, by their keys."""
    if type_name(step.get('type')) == 'Albu':
        return {}  # Albumentations' own
    return {key: step[key] for key in ('transforms', 'policies', 'aug_space')
            if isinstance(step.get(key), (list, tuple))}


def _without_labels(steps: Sequence[Any], skipped: set[str], mixes: bool,
                    notes: list[str]) -> list[Any]:
    """The steps that images without labels pass.

    Args:
        steps: In order.
        skipped: Types to leave out.
        mixes: Whether images are mixed in this pipeline.
        notes: To which differences are added.
    """
    kept: list[Any] = []
    for step in steps:
        if isinstance(step, (list, tuple)):  # a branch of a choice
            kept.append(_without_labels(step, skipped, mixes, notes))
            continue
        if not isinstance(step, Mapping):
            kept.append(step)  # no step; the check of the data says so
            continue
        name = type_name(step.get('type'))
        if name in _LOAD_LABELS:
            kept.append(dict(type='LoadEmptyAnnotations'))
        elif name in _ABOUT_LABELS:
            continue
        elif name in skipped or name in _WHY:
            notes.append(f'{name} is left out: '
                         + _WHY.get(name, 'it belongs to the mixed images'))
        elif mixes and name == 'RandomAffine' and min(
                as_list(step.get('border')) or [0]) < 0:
            notes.append(f'{name} is left out: it cuts the border of mixed '
                         'images')
        else:
            kept.append(_changed(step, name, skipped, mixes, notes))
    return kept


def _changed(step: Mapping[str, Any], name: str, skipped: set[str],
             mixes: bool, notes: list[str]) -> dict[str, Any]:
    """A step that is kept, as images without boxes pass it."""
    changed = {**copy.deepcopy(dict(step)), **_CHANGES.get(name, {})}
    boxes = changed.get('bbox_params')
    if name == 'Albu' and boxes and boxes.get('filter_lost_elements'):
        changed['skip_img_without_anno'] = False
    for key, inner in _lists_in(step).items():
        # A choice keeps the probabilities of the others.
        alternatives = name in ('RandomChoice', 'AutoAugment', 'RandAugment')
        branches = [[part] if alternatives and isinstance(part, Mapping)
                    else part for part in inner]
        changed[key] = _without_labels(branches, skipped, mixes, notes)
    return changed
