"""What comes out of a config's loaders."""
from typing import Any, Iterator, Mapping, Sequence

from mmengine.config import Config
from mmengine.dist import get_world_size

from mtpd.config_types import dict_of, type_name
from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.plan import Plan
from mtpd.plan.settings import as_list, is_positive_int

from .evaluators import metrics_of
from .reading import ReadSource
from .sources import LOADERS


def box_problems(reads: Sequence[ReadSource]) -> list[str]:
    """That a loader has no box, so that nothing is learned or measured.

    Args:
        reads: The data sets of one loader.
    """
    if not reads or any(read.boxes for read in reads):
        return []
    source = reads[0].source
    loader = f'{source.owner}{source.loader}'
    use = 'nothing can be learned from it' if source.trains else \
        'no AP can be measured with it'
    causes = [f'{read.source.path}: {read.why_no_box}' for read in reads]
    return [f'{loader} has no usable box of the classes {reads[0].classes}, '
            f'so that {use}. Of its annotations, in {"; ".join(causes)}. '
            'Correct the annotations, or the classes.']


def mask_problems(cfg: Config, reads: Sequence[ReadSource]) -> list[str]:
    """Data sets without masks where masks are loaded or measured."""
    measured = any('segm' in as_list(metric.get('metric'))
                   for _, metric in metrics_of(cfg))
    problems = []
    for read in reads:
        source = read.source
        loads = any(type_name(step.get('type')) == 'LoadAnnotations'
                    and step.get('with_mask')
                    for step in steps_of(source.dataset))
        needed = f'{source.field}.pipeline loads masks (with_mask=True)' \
            if loads else f"{source.owner}val_evaluator measures 'segm'"
        if read.without_mask and (loads or (measured and not source.trains)):
            problems.append(
                f'{needed}, and {read.without_mask} objects of {source.path} '
                'have no segmentation. Add it to the annotations, or use '
                'boxes alone: a detector without mask head, '
                "with_bbox=True and metric='bbox'.")
    return problems


def batch_problems(cfg: Config, owner: str,
                   reads: Mapping[str, Sequence[ReadSource]]) -> list[str]:
    """Loaders that leave out all images of a training, or some of a
    validation, because ``drop_last`` drops batches that are not full.

    Args:
        cfg: The config.
        owner: The prefix of its fields.
        reads: Loader -> its data sets.
    """
    problems = []
    for name, sources in reads.items():
        loader = cfg.get(name)
        if not loader:
            continue
        sampler = loader.get('batch_sampler') or loader
        kind = type_name(dict_of(loader, 'sampler').get(
            'type', 'DefaultSampler'))
        size = _size(loader.dataset, iter(sources))
        if size is None or not sampler.get('drop_last') \
                or kind != 'DefaultSampler':
            continue
        processes = get_world_size()
        images = -(-size // processes)
        batch = loader.get('batch_size', 1)
        counted = f'{owner}{name} has {images} images' + (
            f' for each of {processes} processes' if processes > 1 else '')
        if images < batch:
            problems.append(
                f'{counted}, batch_size={batch} and drop_last=True: there is '
                'no batch, and nothing would run. Set batch_size to at most '
                f'{images}, or drop_last=False.')
        elif name == 'val_dataloader' and images % batch:
            problems.append(
                f'{counted}, batch_size={batch} and drop_last=True: '
                f'{images % batch} would not be looked at, and what they show '
                f'would count as missed. Set {owner}{name}.drop_last=False.')
    return problems


def batches_per_epoch(cfg: Config,
                      reads: Sequence[ReadSource]) -> int | None:
    """The number of batches of an epoch of training in each process; None if
    unknown.

    Args:
        cfg: A detector's config.
        reads: The data sets of its training.
    """
    loader = dict_of(cfg, 'train_dataloader')
    size = _size(dict_of(loader, 'dataset'), iter(reads))
    if not is_positive_int(loader.get('batch_size')) or not size:
        return None
    return batches_of(size, loader)


def batches_of(size: int, loader: Mapping[str, Any]) -> int:
    """The number of batches of an epoch in each process.

    Args:
        size: Images of the data set.
        loader: The config of the loader, its batch size among it.
    """
    batch = loader['batch_size']
    images = -(-size // get_world_size())
    drops = (loader.get('batch_sampler') or loader).get('drop_last')
    batches = images // batch if drops else -(-images // batch)
    # mmengine then takes the first images alone.
    limit = loader.get('num_batch_per_epoch')
    return min(batches, limit) if is_positive_int(limit) else batches


def steps_of(part: Any) -> Iterator[Mapping[str, Any]]:
    """The steps of all pipelines within a data set's config, also those
    within others."""
    for key in ('pipeline', 'transforms'):
        for step in as_list(part.get(key)):
            for inner in as_list(step):  # branches are lists of lists
                if isinstance(inner, Mapping):
                    yield inner
                    yield from steps_of(inner)
    for inner in (*as_list(part.get('datasets')), part.get('dataset')):
        if isinstance(inner, Mapping):
            yield from steps_of(inner)


def _size(dataset: Mapping[str, Any],
          reads: Iterator[ReadSource]) -> int | None:
    """The number of images of a data set with its wrappers; None where a
    wrapper draws it.

    Args:
        dataset: Its config.
        reads: The data sets inside, in order.
    """
    if 'datasets' in dataset:
        sizes = [_size(inner, reads) for inner in dataset['datasets']]
        return None if None in sizes else sum(filter(None, sizes))
    if 'dataset' in dataset:
        size = _size(dataset['dataset'], reads)
        kind = type_name(dataset.get('type'))
        if kind == 'RepeatDataset' and size is not None:
            return size * dataset['times']
        return size if kind == 'MultiImageMixDataset' else None
    read = next(reads, None)
    return None if read is None else len(read.image_ids)


def repeated_normalisation(plan: Plan) -> list[str]:
    """Pipelines with a ``Normalize`` in front of a detector that normalises
    in its ``data_preprocessor``: student and teachers get raw images, each
    its own normalisation."""
    used = [plan.student, *(plan.teachers[name] for name in plan.used)]
    own = plan.unlabelled and plan.unlabelled.pipeline
    problems = normalised_twice(plan.student.config, '', used, {
        'mtpd.unlabelled': dict(pipeline=own)} if own else {})
    for spec in used[1:]:
        # With it, a teacher's own AP is measured.
        problems += normalised_twice(spec.config, f'{spec.field}.config: ',
                                     [spec])
    return problems


def changes_values(preprocessor: Mapping[str, Any]) -> bool:
    """Whether a data preprocessor normalises, and not by 0 and 1."""
    return any(as_list(preprocessor.get('mean'))) or any(
        std != 1 for std in as_list(preprocessor.get('std')))


def normalised_twice(cfg: Config, owner: str, specs: Sequence[DetectorSpec],
                     others: Mapping[str, Any] | None = None) -> list[str]:
    """Pipelines of a config that normalise what detectors normalise too.

    Args:
        cfg: The config.
        owner: The prefix of its fields.
        specs: The detectors that see the images.
        others: Further fields -> what has a pipeline there.
    """
    fields = [spec.field for spec in specs if changes_values(
        dict_of(spec.model, 'data_preprocessor'))]
    problems = []
    parts = {f'{loader}.dataset': dict_of(cfg, f'{loader}.dataset')
             for loader in LOADERS}
    for index, hook in enumerate(as_list(cfg.get('custom_hooks'))):
        if isinstance(hook, Mapping):
            parts[f'custom_hooks[{index}]'] = dict(
                pipeline=hook.get('switch_pipeline'))
    for field, part in {**parts, **(others or {})}.items():
        names = [type_name(step.get('type')) for step in steps_of(part)]
        if fields and 'Normalize' in names:
            problems.append(
                f'{owner}{field} has a Normalize in its pipeline, '
                f'and the data_preprocessor of {", ".join(fields)} normalises '
                'too: the images would be normalised twice. Remove the step, '
                'and set mean, std and bgr_to_rgb in model.data_preprocessor '
                'alone.')
    return problems
