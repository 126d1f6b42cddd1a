"""The parts of a config that registries build during a run."""
import importlib.util
from typing import Any, Collection, Iterable, Iterator, Mapping, NamedTuple

from mmdet.registry import (DATA_SAMPLERS, DATASETS, EVALUATOR, HOOKS, LOOPS,
                            METRICS, OPTIM_WRAPPERS, OPTIMIZERS,
                            PARAM_SCHEDULERS, TRANSFORMS, VISBACKENDS,
                            VISUALIZERS)
from mmengine.registry import Registry

from mtpd.config_types import dict_of, no_dict, type_name, value_of
from mtpd.plan.errors import did_you_mean
from mtpd.plan.settings import as_list

from .keywords import unknown_keywords, wrong_divisors

PACKAGES = {
    'TensorboardVisBackend': 'tensorboard', 'WandbVisBackend': 'wandb',
    'MLflowVisBackend': 'mlflow', 'ClearMLVisBackend': 'clearml',
    'NeptuneVisBackend': 'neptune', 'DVCLiveVisBackend': 'dvclive',
    'AimVisBackend': 'aim', 'Albu': 'albumentations',
    'Corrupt': 'imagecorruptions', 'InstaBoost': 'instaboostfast',
    'LVISV05Dataset': 'lvis', 'LVISV1Dataset': 'lvis', 'LVISMetric': 'lvis',
    'CityScapesMetric': 'cityscapesscripts',
    'LoadPanopticAnnotations': 'panopticapi',
    'CocoPanopticMetric': 'panopticapi'}
"""What mmengine and mmdet import where it is used -> its package."""


_LOOPS = {'max_epochs': 'EpochBasedTrainLoop',
          'max_iters': 'IterBasedTrainLoop'}
"""Lengths of a training -> mmengine's loop that counts by them."""


class Part(NamedTuple):
    """An entry of a config that one of some registries builds.

    Attributes:
        field: Where it stands.
        config: The entry.
        registries: Where its type is looked for.
        others: Keywords that mmengine takes out of it.
    """
    field: str
    config: Any
    registries: tuple[Registry, ...]
    others: Collection[str] = ()


def part_problems(cfg: Mapping[str, Any], owner: str = '') -> list[str]:
    """Types that no registry has, keywords that a type does not take, and
    packages that are not installed, one message each.

    Args:
        cfg: A detector's config.
        owner: The prefix of its fields.
    """
    problems = _problems(_parts(cfg))
    if type_name(value_of(cfg, 'model.bbox_head.type')) == 'PAAHead' \
            and importlib.util.find_spec('sklearn') is None:
        problems.append(
            'model.bbox_head is a PAAHead, whose training needs the package '
            'scikit-learn, which is not installed. Install it: pip install '
            'scikit-learn.')
    return [owner + problem for problem in problems]


def unlabelled_part_problems(dataset: Mapping[str, Any] | None,
                             pipeline: Any) -> list[str]:
    """The same of images without labels.

    Args:
        dataset: ``mtpd.unlabelled.dataset``.
        pipeline: ``mtpd.unlabelled.pipeline``.
    """
    field = 'mtpd.unlabelled'
    return _problems([*_of_dataset(dataset, f'{field}.dataset'),
                      *_of_steps(pipeline, f'{field}.pipeline')])


def _problems(parts: Iterable[Part]) -> list[str]:
    problems = []
    for part in parts:
        if isinstance(part.config, Mapping) and 'type' in part.config:
            problems += _problems_of(part)
        elif isinstance(part.config, (str, list, tuple)):
            problems.append(no_dict(part.field, part.config,
                                    _names(part.registries)))
    return problems


def _problems_of(part: Part) -> list[str]:
    kind = part.config['type']
    found = _find(kind, part.registries)
    if found is None:
        return [f'{part.field}.type {kind!r} is not known'
                + did_you_mean(kind, _names(part.registries), quote=True)]
    package = PACKAGES.get(type_name(kind))
    if package is not None and importlib.util.find_spec(package) is None:
        return [f'{part.field} is a {type_name(kind)}, and the package '
                f'{package} is not installed. Install it, or take the entry '
                'out.']
    return unknown_keywords(found, part.config, part.field, part.others) \
        + wrong_divisors(found, part.config, part.field)


def _find(kind: Any, registries: tuple[Registry, ...]) -> Any:
    if not isinstance(kind, str):
        return kind
    for registry in registries:
        try:
            found = registry.get(kind)
        except RuntimeError:  # an import path that does not exist
            found = None
        if found is not None:
            return found
    return None


def _names(registries: tuple[Registry, ...]) -> list[str]:
    names = []
    for registry in registries:
        at: Registry | None = registry
        while at is not None:
            names += list(at.module_dict)
            at = at.parent
    return names


def _parts(cfg: Mapping[str, Any]) -> Iterator[Part]:
    """Every part, with the registries that build it."""
    for name in ('train_dataloader', 'val_dataloader'):
        yield from _of_loader(dict_of(cfg, name), name)
    yield from _of_loops(cfg)
    wrapper = dict_of(cfg, 'optim_wrapper')
    if 'constructor' not in wrapper:  # which may take what it likes
        yield Part('optim_wrapper', wrapper, (OPTIM_WRAPPERS,),
                   ('constructor', 'paramwise_cfg'))
        yield Part('optim_wrapper.optimizer', wrapper.get('optimizer'),
                   (OPTIMIZERS,))
    for field, entry in _numbered(cfg, 'param_scheduler'):
        yield Part(field, entry, (PARAM_SCHEDULERS,),
                   ('convert_to_iter_based',))
    hooks = dict(_numbered(cfg, 'custom_hooks'))
    for name, hook in dict_of(cfg, 'default_hooks').items():
        hooks[f'default_hooks.{name}'] = hook
    for field, entry in hooks.items():
        yield Part(field, entry, (HOOKS,), ('priority',))
        if isinstance(entry, Mapping):
            yield from _of_steps(entry.get('switch_pipeline'),
                                 f'{field}.switch_pipeline')
    for field, entry in _numbered(cfg, 'val_evaluator'):
        yield Part(field, entry, (METRICS, EVALUATOR))
    visualizer = dict_of(cfg, 'visualizer')
    yield Part('visualizer', visualizer, (VISUALIZERS,))
    for field, entry in _numbered(visualizer, 'vis_backends', 'visualizer.'):
        yield Part(field, entry, (VISBACKENDS,))


def _of_loops(cfg: Mapping[str, Any]) -> Iterator[Part]:
    train, val = dict_of(cfg, 'train_cfg'), cfg.get('val_cfg')
    if isinstance(val, Mapping):
        yield Part('val_cfg', {'type': 'ValLoop', **val}, (LOOPS,))
    lengths = [key for key in _LOOPS if key in train]
    if len(lengths) == 1 and type_name(
            train.get('type', _LOOPS[lengths[0]])) in _LOOPS.values():
        # A stage takes the loop that counts as the length does.
        yield Part('train_cfg', {**train, 'type': _LOOPS[lengths[0]]},
                   (LOOPS,), ('by_epoch',))


def _of_loader(loader: Mapping[str, Any], field: str) -> Iterator[Part]:
    for key in ('sampler', 'batch_sampler'):
        yield Part(f'{field}.{key}', loader.get(key), (DATA_SAMPLERS,))
    yield from _of_dataset(loader.get('dataset'), f'{field}.dataset')


def _of_dataset(dataset: Any, field: str) -> Iterator[Part]:
    yield Part(field, dataset, (DATASETS,))
    if not isinstance(dataset, Mapping):
        return
    yield from _of_steps(dataset.get('pipeline'), f'{field}.pipeline')
    yield from _of_dataset(dataset.get('dataset'), f'{field}.dataset')
    for index, inner in enumerate(as_list(dataset.get('datasets'))):
        yield from _of_dataset(inner, f'{field}.datasets[{index}]')


def _of_steps(steps: Any, field: str) -> Iterator[Part]:
    """The steps of a pipeline, also those within others."""
    for index, step in enumerate(as_list(steps)):
        name = f'{field}[{index}]'
        if isinstance(step, (list, tuple)):
            yield from _of_steps(step, name)
        else:
            yield Part(name, step, (TRANSFORMS,))
        if isinstance(step, Mapping) \
                and type_name(step.get('type')) != 'Albu':
            yield from _of_steps(step.get('transforms'), f'{name}.transforms')


def _numbered(cfg: Mapping[str, Any], key: str, prefix: str = ''
              ) -> Iterator[tuple[str, Any]]:
    """Field and entry of a setting that is one entry or a list of them."""
    entries = cfg.get(key)
    if isinstance(entries, (list, tuple)):
        for index, entry in enumerate(entries):
            yield f'{prefix}{key}[{index}]', entry
    else:
        yield f'{prefix}{key}', entries
