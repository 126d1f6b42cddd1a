"""One COCO annotation file: whether mmdet and pycocotools can use it."""
import json
import math
from collections import Counter
from typing import Any, Callable, Iterable, Mapping, Sequence

from mtpd.plan.errors import PlanError

CURES = {
    'no area': 'Write the area of the object, or width * height of its bbox.',
    'no iscrowd': 'Write iscrowd=0 for a single object, 1 for a group.',
    'no width': "Write the image's size in pixels.",
    'no height': "Write the image's size in pixels.",
    'an id that another one has': 'Number them from 1 on.'}
"""What to do about a fault; any other needs a correction by hand."""

PARTS = ('images', 'annotations', 'categories')


class _Faults:
    """Faults of a list's entries; each kind is told once, with its count and
    its first entry."""

    def __init__(self, entries: str, total: int) -> None:
        self._entries, self._total = entries, total
        self._counts: Counter = Counter()
        self._first: dict[str, str] = {}

    def add(self, fault: str, entry: str) -> None:
        self._counts[fault] += 1
        self._first.setdefault(fault, entry)

    def texts(self) -> list[str]:
        texts = []
        for fault, count in self._counts.items():
            cure = CURES.get(fault, 'Correct the file.')
            texts.append(f'{count} of {self._total} {self._entries} have '
                         f'{fault}; the first is {self._first[fault]}. {cure}')
        return texts


def read_annotations(path: str, start: str) -> dict[str, Any]:
    """The content of an annotation file, read as pycocotools reads it.

    Args:
        path: The file.
        start: The beginning of a message: its field and name.

    Raises:
        PlanError: It cannot be opened, or is no JSON object.
    """
    try:
        with open(path) as file:
            content = json.load(file)
    except UnicodeDecodeError as error:
        problem = (f'is not in UTF-8 ({error.reason} at byte {error.start}). '
                   'Save it as UTF-8 without a byte order mark.')
    except json.JSONDecodeError as error:
        problem = (
            'begins with a byte order mark (BOM), which pycocotools does not '
            'read. Save it as UTF-8 without one: read it in Python with '
            "encoding='utf-8-sig' and write it with encoding='utf-8'."
            if error.doc.startswith('\ufeff') else
            f'is no JSON ({error}). Expected one JSON object in COCO format.')
    except OSError as error:
        problem = (f'cannot be read ({error.strerror}). Correct the path or '
                   "the file's permissions.")
    else:
        if isinstance(content, dict):
            return content
        problem = (f'holds {_kind(content)}. Expected one JSON object with '
                   'images, annotations and categories, as in COCO.')
    raise PlanError([f'{start} {problem}'])


def content_problems(content: Mapping[str, Any], evaluated: bool,
                     labelled: bool = True) -> list[str]:
    """Everything in a file's content on which mmdet or pycocotools fails, or
    that they would silently read in another way.

    Args:
        content: From :func:`read_annotations`.
        evaluated: Whether COCO's evaluation reads it too, which needs
            ``iscrowd``, and ids of annotations that are numbers.
        labelled: Whether boxes are needed.
    """
    problems = []
    parts = PARTS if labelled else ('images', )
    for part in parts:
        if part not in content:
            problems.append(f'has no {part!r}, but {sorted(content)[:6]}. '
                            'Expected the COCO format, with images, '
                            'annotations and categories.')
        elif not isinstance(content[part], list):
            problems.append(f'has {_kind(content[part])} as {part!r}. '
                            'Expected a list of objects.')
    if problems:
        return problems
    checks: dict[str, Callable[[Any], str]] = {
        'images': image_fault, 'categories': category_fault,
        'annotations': evaluated_fault if evaluated else annotation_fault}
    for part in parts:
        problems += _entry_problems(content[part], part, checks[part])
    if not problems and labelled:
        problems += _reference_problems(content)
    return problems


def category_names(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the categories, in the order of the file, which is the
    order in which mmdet numbers them."""
    return tuple(category['name'] for category in content['categories'])


def why_no_box(content: Mapping[str, Any], classes: Iterable[str]) -> str:
    """Why mmdet uses no box of a file, in numbers."""
    wanted, sizes = set(), {}
    for category in content['categories']:
        if category['name'] in set(classes):
            wanted.add(category['id'])
    for image in content['images']:
        sizes[image['id']] = image['width'], image['height']
    reasons: Counter = Counter()
    for annotation in content['annotations']:
        reasons[why_unused(annotation, wanted, sizes)] += 1
    counts = [f'{count} {reason}' for reason, count in reasons.items()]
    return ', '.join(counts) or 'it has no annotation at all'


def why_unused(annotation: Mapping[str, Any], wanted: set,
                sizes: Mapping[Any, tuple[float, float]]) -> str:
    """Why mmdet leaves out a box; in the order of its own tests."""
    if annotation['image_id'] not in sizes:
        return 'name an image_id that no image has'
    if annotation.get('ignore'):
        return 'are to be ignored'
    x, y, width, height = annotation['bbox']
    image_width, image_height = sizes[annotation['image_id']]
    if min(x + width, image_width) <= max(x, 0) \
            or min(y + height, image_height) <= max(y, 0):
        return 'lie outside of their image'
    if annotation['area'] <= 0:
        return 'have an area of 0 or less'
    if width < 1 or height < 1:
        return 'are smaller than a pixel'
    if annotation['category_id'] not in wanted:
        return "have a category_id that none of the classes' categories has"
    if annotation.get('iscrowd'):
        return 'are crowds (iscrowd=1)'
    return 'belong to images that filter_cfg or indices leave out'


def _entry_problems(entries: Sequence[Any], part: str,
                    fault_of: Callable[[Any], str]) -> list[str]:
    """The faults of single entries, and ids that occur twice."""
    faults = _Faults(part, len(entries))
    ids = set()
    for number, entry in enumerate(entries):
        fault = fault_of(entry)
        if not fault:
            if entry['id'] in ids:
                fault = 'an id that another one has'
            ids.add(entry['id'])
        if fault:
            faults.add(fault, f'number {number}, {_excerpt(entry)}')
    problems = faults.texts()
    if not entries and part != 'annotations':
        problems.append(f'its list of {part} is empty. Correct the file.')
    return [f'is not as mmdet needs it: {problem}' for problem in problems]


def image_fault(image: Any) -> str:
    """What mmdet lacks in an image's entry, in words; empty if nothing."""
    fault = _lacks(image, ('id', 'file_name', 'width', 'height'))
    if fault:
        return fault
    if not isinstance(image['file_name'], str) or not image['file_name']:
        return 'a file_name that is no text'
    for key in ('width', 'height'):
        if not _is_number(image[key]) or image[key] <= 0:
            return f'a {key} that is no number above 0'
    return ''


def category_fault(category: Any) -> str:
    """As :func:`image_fault`, of a category."""
    fault = _lacks(category, ('id', 'name'))
    if not fault and not isinstance(category['name'], str):
        return 'a name that is no text'
    return fault


def annotation_fault(annotation: Any) -> str:
    """As :func:`image_fault`, of an annotation that is trained on."""
    if isinstance(annotation, dict) and annotation.get('ignore'):
        return _lacks(annotation, ('id', 'image_id', 'category_id'))
    return _box_fault(annotation)


def evaluated_fault(annotation: Any) -> str:
    """As :func:`image_fault`, of an annotation that COCO's evaluation reads.
    """
    fault = _box_fault(annotation) or _lacks(annotation, ('iscrowd', ))
    if fault:
        return fault
    if isinstance(annotation['id'], str):
        return "an id that is text (COCO's evaluation needs numbers)"
    return '' if annotation['iscrowd'] is not None else 'an empty iscrowd'


def _box_fault(annotation: Any) -> str:
    fault = _lacks(annotation,
                   ('id', 'image_id', 'category_id', 'bbox', 'area'))
    if fault:
        return fault
    box = annotation['bbox']
    if not isinstance(box, list) or len(box) != 4 \
            or not all(map(_is_number, box)):
        return 'a bbox that is no list of four numbers (x, y, width, height)'
    if not _is_number(annotation['area']):
        return 'an area that is no number'
    if annotation.get('iscrowd') not in (0, 1, None):
        return 'an iscrowd that is neither 0 nor 1'
    return ''


def _lacks(entry: Any, keys: Sequence[str]) -> str:
    """What an entry lacks of keys, the ids among which name something."""
    if not isinstance(entry, dict):
        return 'another form than an object'
    for key in keys:
        if key not in entry:
            return f'no {key}'
        if key.endswith('id') and not _is_id(entry[key]):
            return f'a {key} that is neither a number nor text'
    return ''


def _is_id(value: Any) -> bool:
    return type(value) in (int, str) or _is_number(value)


def _is_number(value: Any) -> bool:
    return type(value) is int or (
        isinstance(value, float) and math.isfinite(value))


def _reference_problems(content: Mapping[str, Any]) -> list[str]:
    """Ids that are text in one list and numbers in another, so that
    pycocotools finds nothing. Annotations of images or categories that are
    not in the file are common in subsets, and left out by mmdet."""
    problems = []
    for key, part in (('image_id', 'images'), ('category_id', 'categories')):
        ids = {entry['id'] for entry in content[part]}
        texts = {_as_text(value): value for value in ids}
        for annotation in content['annotations']:
            value = annotation[key]
            if value in ids:
                continue
            other = texts.get(_as_text(value))
            if other is not None:
                problems.append(
                    f'has {key} {value!r} in its annotations and id {other!r} '
                    f'in its {part}, which are not equal: one is text, the '
                    'other a number. Write both as numbers.')
                break
    return problems


def _as_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) \
        and value.is_integer() else str(value).strip()


def _excerpt(entry: Any) -> str:
    text = json.dumps(entry, default=str)
    return text if len(text) <= 120 else text[:117] + '...'


def _kind(value: Any) -> str:
    return {list: 'a list', dict: 'an object', str: 'text', bool:
            'a truth value', type(None): 'null'}.get(type(value), 'a number')
