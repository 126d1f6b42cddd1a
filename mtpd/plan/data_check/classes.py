"""The classes of a config: in its data sets, their files and the heads.

mmdet's ``CocoDataset`` numbers the classes in the order in which the file
lists their categories; ``metainfo.classes`` only selects and names them.
``CocoMetric`` numbers by its own file in the same way.
"""
import inspect
from typing import Any, Iterator, Mapping, Sequence

from mmdet.registry import MODELS

from mtpd.plan.errors import PlanError, did_you_mean

from .sources import Source


def classes_of_dataset(source: Source) -> tuple[str, ...] | None:
    """The names in ``metainfo.classes``, else those of the data set's type;
    None where it finds them by itself.

    Raises:
        PlanError: They are no list of names.
    """
    if source.kind is None:
        return None
    metainfo = source.dataset.get('metainfo')
    classes = source.kind._load_metainfo(  # type: ignore[attr-defined]
        metainfo).get('classes')
    if isinstance(classes, str):
        raise PlanError([
            f'{source.field}.metainfo.classes is the text {classes!r}. '
            f'Expected a tuple of names: classes=({classes!r}, ), with a '
            'comma.'])
    names = tuple(classes or ())
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise PlanError([f'{source.field}.metainfo.classes names {twice!r} '
                         'twice. Name each class once.'])
    return names or None


def name_problems(source: Source, classes: Sequence[str],
                  categories: Sequence[str]) -> list[str]:
    """Classes that a file does not have, or has twice.

    Args:
        source: The data set.
        classes: Of the config.
        categories: The names in its file.
    """
    problems = []
    missing = sorted(set(classes) - set(categories), key=classes.index)
    if missing:
        hint = _joined(missing[0], categories) or did_you_mean(
            missing[0], categories, quote=True)
        problems.append(
            f'{source.field}.metainfo.classes names {_list(missing)}, and '
            f'{source.path} has no such '
            f'{"category" if len(missing) == 1 else "categories"}{hint} mmdet '
            'would number the other classes without it. Correct the name, or '
            "add it to the file's categories.")
    twice = [name for name in classes if list(categories).count(name) > 1]
    if twice:
        problems.append(
            f'{source.field}.ann_file: {source.path} has two categories of '
            f'the name {twice[0]!r}, and mmdet would number them as two '
            'classes. Join them, or rename one.')
    return problems


def order_problems(read: Sequence[tuple[Source, Sequence[str],
                                       Sequence[str]]]) -> list[str]:
    """Data sets that number the classes in another way than the first one, or
    than they are named.

    Args:
        read: Each data set, its classes by config, and by its file in the
            order in which they are numbered.
    """
    problems = []
    for source, named, numbered in read:
        first, classes, expected = read[0]
        if set(named) != set(classes):
            problems.append(
                f'{source.field}.metainfo.classes are {_list(named)}, and '
                f'{first.field}.metainfo.classes are {_list(classes)}. Set '
                'the same classes for both.')
        elif tuple(numbered) != tuple(expected):
            problems.append(
                f'{source.field}.ann_file: {source.path} lists its categories '
                f'in the order {_list(numbered)}, and {first.path} in the '
                f'order {_list(expected)}. mmdet numbers classes in the order '
                'of the file, so that a class would be taken for another '
                'one. List the categories of both files in the same order '
                '(their ids may stay).')
        elif tuple(named) != tuple(numbered):
            problems.append(
                f'{source.field}.metainfo.classes are in the order '
                f'{_list(named)}, and {source.path} lists its categories in '
                f'the order {_list(numbered)}. mmdet numbers classes in the '
                'order of the file, so that a detector would give them '
                f'wrong names. Set {source.field}.metainfo.classes='
                f'{tuple(numbered)}.')
    return problems


def head_problems(model: Mapping[str, Any], owner: str, count: int,
                  field: str) -> list[str]:
    """Heads that predict another number of classes than there are.

    Args:
        model: The detector's config.
        owner: The prefix of the config's fields.
        count: The number of classes.
        field: Where they are set.
    """
    return [f'{owner}{head} predicts {found} classes, and {field} has '
            f'{count}. Set {head}.num_classes={count}.'
            for head, found in head_classes(model) if found != count]


def head_classes(model: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Each box and mask head of a detector with the number of its classes.

    Heads that match text to boxes have no fixed classes; they are left out.
    """
    if 'language_model' in model:
        return
    parts = [('model', model)]
    if isinstance(model.get('roi_head'), Mapping):
        parts.append(('model.roi_head', model['roi_head']))
    for field, part in parts:
        for key in ('bbox_head', 'mask_head'):
            heads = part.get(key) or []
            one = isinstance(heads, Mapping)
            for i, head in enumerate([heads] if one else heads):
                count = num_classes_of(head)
                if count is not None:
                    yield f'{field}.{key}' + ('' if one else f'.{i}'), count


def num_classes_of(head: Mapping[str, Any]) -> int | None:
    """As the config says, else the default of the head's class."""
    if 'num_classes' in head:
        return head['num_classes']
    kind = head.get('type')
    kind = kind if isinstance(kind, type) else MODELS.get(str(kind))
    for base in inspect.getmro(kind) if kind else ():
        parameter = inspect.signature(base).parameters.get('num_classes')
        if parameter is not None:
            return parameter.default if isinstance(
                parameter.default, int) else None
    return None


def _joined(name: str, categories: Sequence[str]) -> str:
    """That a name is two categories' without a comma between them."""
    for first in categories:
        if name.startswith(first) and name[len(first):] in categories:
            return (f'; it is {first!r} and {name[len(first):]!r} with no '
                    'comma between them.')
    return ''


def _list(names: Sequence[str]) -> str:
    """The names, of many the first ones."""
    shown = ', '.join(map(repr, names[:8]))
    return f'{shown} and {len(names) - 8} more' if len(names) > 8 else shown
