"""Convert a Pascal VOC folder to the COCO JSON that mmdet's CocoDataset reads.

    python tools/voc_to_coco.py BCCD_Dataset/BCCD --out data/bccd

reads ``JPEGImages/*.jpg`` (or .jpeg, .png, .bmp, .tif, .tiff, .webp),
``Annotations/*.xml`` and ``ImageSets/Main/{train,val}.txt`` (as in
github.com/Shenggan/BCCD_Dataset), and writes ``OUT/{train,val}/*.jpg`` and
``OUT/annotations/instances_{train,val}.json``.

Boxes: VOC counts pixels from 1 and includes the last one, so pixels xmin to
xmax cover the edge coordinates xmin - 1 to xmax. This is written as
x = xmin - 1, width = xmax - xmin + 1; a box from xmin = 1 to xmax = width of
the image covers the whole image. mmdet's XMLDataset subtracts 1 from xmax as
well: its boxes have the same corner and are one pixel smaller. A box with
xmax <= xmin or ymax <= ymin is an annotation error; it is dropped and counted.

``difficult`` objects become ``iscrowd=1``: they are not trained on and do not
change a detector's AP, as in mmdet's own converter and XMLDataset.
"""
import argparse
import json
import os
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Mapping, Sequence

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
"""Of images, in any case."""

Size = tuple[int, int]  # (width, height)
Box = tuple[str, bool, tuple[int, ...]]
"""Class, difficult, (xmin, ymin, xmax, ymax) in VOC's own coordinates."""


def voc_to_coco(voc: Path, out: Path, splits: list[str],
                classes: list[str] | None = None) -> dict[str, dict]:
    """Convert splits of a VOC folder; all is read before any is written.

    An image's file has its annotation's name with one of :data:`SUFFIXES`. The
    ``filename`` inside the XML is not read: a renamed image often keeps its
    old one.

    Args:
        voc: Folder with JPEGImages, Annotations and ImageSets/Main.
        out: Folder to write to; created if it does not exist.
        splits: Names of the lists in ImageSets/Main.
        classes: Category names in the order of their ids, which start at 1;
            None takes all names in the splits, sorted.

    Returns:
        Split -> number of ``images``, ``annotations``, ``dropped`` boxes.

    Raises:
        FileNotFoundError: A split's list, an XML or an image is missing.
        ValueError: An empty split, a list or an XML that cannot be read, two
            images or classes of one name, or an object whose class is not in
            ``classes``.
    """
    files = _image_files(voc / 'JPEGImages')
    objects: dict[str, dict[str, tuple[Size, list[Box]]]] = {}
    for split in splits:
        objects[split] = {
            _image_name(voc, files, stem): _read_annotation(voc, stem)
            for stem in _read_split(voc, split)}
    names: set[str] = set()
    for images in objects.values():
        for _, boxes in images.values():
            names.update(name for name, _, _ in boxes)
    if classes and len(set(classes)) < len(classes):
        raise ValueError(f'--classes names a class twice: '
                         f'{" ".join(classes)}.')
    classes = classes or sorted(names)
    if unknown := sorted(names - set(classes)):
        raise ValueError(
            f'the annotations name {", ".join(unknown)}, and the classes are '
            f'{", ".join(classes)}. Set --classes to all of: '
            f'{" ".join(sorted(names))}.')
    counts = {}
    for split, images in objects.items():
        coco, dropped = _coco(images, classes)
        for name in images:
            _place(voc / 'JPEGImages' / name, out / split / name)
        (out / 'annotations').mkdir(exist_ok=True)
        (out / 'annotations' / f'instances_{split}.json').write_text(
            json.dumps(coco))
        counts[split] = dict(images=len(coco['images']),
                             annotations=len(coco['annotations']),
                             dropped=dropped)
    return counts


def _read_split(voc: Path, split: str) -> list[str]:
    """Stems listed in a split, in its order; a byte order mark and Windows'
    line ends are left out."""
    path = voc / 'ImageSets' / 'Main' / f'{split}.txt'
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} is missing: the first argument must be the folder that '
            'holds JPEGImages, Annotations and ImageSets, and --splits must '
            'name lists in ImageSets/Main.')
    try:
        lines = path.read_text(encoding='utf-8-sig').split('\n')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is not in UTF-8 ({error.reason} at byte '
                         f'{error.start}). Save it as UTF-8.') from error
    stems = [_stem(voc, line.strip()) for line in lines if line.strip()]
    if not stems:
        raise ValueError(f'{path} names no image.')
    if len(set(stems)) < len(stems):
        raise ValueError(f'{path} names an image twice.')
    return stems


def _stem(voc: Path, line: str) -> str:
    """The stem that a line of a list names, which may have spaces, the
    image's suffix, or VOC's second column of lists of one class (1, 0, -1):
    the first reading that has an annotation."""
    first, _, last = line.rpartition(' ')
    names = [line, first.strip() if last in ('1', '0', '-1') else line,
             line.split()[0]]
    for name in names:
        for stem in (name, os.path.splitext(name)[0]):
            suffix = name[len(stem):].lower()
            if suffix in ('', *SUFFIXES) \
                    and (voc / 'Annotations' / f'{stem}.xml').is_file():
                return stem
    return names[1]


def _image_files(folder: Path) -> dict[str, list[str]]:
    """Stem -> names of its images, both with their folder within ``folder``.
    """
    files: dict[str, list[str]] = {}
    for path in sorted(folder.rglob('*')):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            name = path.relative_to(folder)
            files.setdefault(name.with_suffix('').as_posix(),
                             []).append(name.as_posix())
    return files


def _image_name(voc: Path, files: Mapping[str, list[str]], stem: str) -> str:
    names = files.get(stem, [])
    if not names:
        raise FileNotFoundError(
            f'{voc / "JPEGImages" / stem}.jpg is missing (or with one of '
            f'{", ".join(SUFFIXES[1:])}), and a split names {stem}.')
    if len(names) > 1:
        raise ValueError(
            f'{voc / "JPEGImages"} has {" and ".join(names)}, and a split '
            f'names {stem}. Remove or rename one.')
    return names[0]


def _read_annotation(voc: Path, stem: str) -> tuple[Size, list[Box]]:
    """One image's size and its boxes."""
    path = voc / 'Annotations' / f'{stem}.xml'
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} is missing, and a split names {stem}.')
    try:
        root = ET.parse(path).getroot()
        size = int(_text(root, 'size/width')), int(_text(root, 'size/height'))
        if min(size) <= 0:
            raise ValueError(f'size is {size[0]} x {size[1]}')
        boxes = [
            (_text(obj, 'name'),
             obj.findtext('difficult', '0').strip() == '1',
             # Some tools write 34.0.
             tuple(int(float(_text(obj, f'bndbox/{key}')))
                   for key in ('xmin', 'ymin', 'xmax', 'ymax')))
            for obj in root.findall('object')]
    except (ET.ParseError, LookupError, OverflowError, ValueError) as error:
        raise ValueError(
            f'{path} lacks a required part or is not readable ({error}). It '
            'needs size/width, size/height and, in each object, name and '
            'bndbox/xmin, ymin, xmax, ymax.') from error
    return size, boxes


def _text(element: ET.Element, path: str) -> str:
    text = (element.findtext(path) or '').strip()
    if not text:
        raise ValueError(f'there is no {path}')
    return text


def _coco(annotated: Mapping[str, tuple[Size, Sequence[Box]]],
          classes: Sequence[str]) -> tuple[dict[str, Any], int]:
    """The COCO dictionary of one split, and how many boxes were dropped."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    dropped = 0
    for image_id, (name, (size, boxes)) in enumerate(annotated.items(), 1):
        width, height = size
        images.append(dict(id=image_id, file_name=name, width=width,
                           height=height))
        for category, difficult, (xmin, ymin, xmax, ymax) in boxes:
            if xmax <= xmin or ymax <= ymin:
                dropped += 1
                continue
            box = [xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]
            annotations.append(dict(
                id=len(annotations) + 1, image_id=image_id,
                category_id=classes.index(category) + 1, bbox=box,
                area=box[2] * box[3], iscrowd=int(difficult)))
    return dict(info={}, licenses=[], images=images, annotations=annotations,
                categories=[dict(id=i + 1, name=name)
                            for i, name in enumerate(classes)]), dropped


def _place(source: Path, target: Path) -> None:
    """Hard-link an image, or copy it where links are not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and os.path.samefile(source, target):
        return  # as after an earlier run; or the folder is a link
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def expanded(path: str) -> Path:
    """With the home folder for ``~``."""
    return Path(path).expanduser()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('voc', type=expanded,
                        help='folder with JPEGImages, Annotations, ImageSets')
    parser.add_argument('--out', type=expanded, required=True)
    parser.add_argument('--splits', nargs='+', default=['train', 'val'])
    parser.add_argument('--classes', nargs='+',
                        help='in the order of their ids; by default all '
                        'names in the annotations, sorted')
    arguments = parser.parse_args()
    try:
        counts = voc_to_coco(arguments.voc, arguments.out, arguments.splits,
                             arguments.classes)
    except OSError as error:
        parser.exit(1, f'{error.filename}: {error.strerror}\n'
                    if error.strerror else f'{error}\n')
    except ValueError as error:
        parser.exit(1, f'{error}\n')
    for split, count in counts.items():
        print(f'{split}: {count["images"]} images, {count["annotations"]} '
              f'boxes, {count["dropped"]} of zero or negative size dropped')


if __name__ == '__main__':
    main()
