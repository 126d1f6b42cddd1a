"""Image files below a folder, and what their headers say."""
import os
from typing import Callable, Iterator

from PIL import ExifTags, Image, UnidentifiedImageError

# What OpenCV reads, and a few that it does not read everywhere: such a file in
# a folder is named and not passed over.
IMAGES = {'.avif', '.bmp', '.dib', '.gif', '.heic', '.hdr', '.jp2', '.jpe',
          '.jpeg', '.jpg', '.pbm', '.pgm', '.png', '.pnm', '.ppm', '.tif',
          '.tiff', '.webp'}
"""The endings of image files, in lower case."""


def is_image(name: str) -> bool:
    """Whether a file is an image that is not hidden, by its name."""
    return os.path.splitext(name)[1].lower() in IMAGES and name[0] != '.'


def image_files(folder: str) -> Iterator[str]:
    """The images below a folder, as :func:`files_below`."""
    return files_below(folder, is_image)


def files_below(folder: str, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Files below a folder, by their paths relative to it, sorted within
    each folder. Hidden files and folders are passed over.

    Args:
        folder: The folder; links to folders in it are followed once.
        wanted: Whether a file is, by its name.
    """
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link into a folder above would never end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] != '.')
        for name in sorted(names):
            if name[0] != '.' and wanted(name):
                yield os.path.relpath(os.path.join(root, name), folder)


def has_header(path: str) -> bool:
    """Whether a file begins as an image; Pillow does not know all formats."""
    if os.path.splitext(path)[1].lower() in ('.hdr', '.heic', '.avif'):
        return os.path.isfile(path) and os.path.getsize(path) > 0
    try:
        with Image.open(path):
            return True
    except Image.DecompressionBombError:  # large, as aerial images are
        return True
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return False


def size_in_header(path: str) -> tuple[int, int] | None:
    """(height, width) in pixels of an image as OpenCV loads it, upright; None
    where Pillow cannot tell."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Four of the eight orientations are lying ones. Pillow decodes a
            # whole PNG for its entries, which cameras do not write.
            if image.format != 'PNG' and image.getexif().get(
                    ExifTags.Base.Orientation, 1) > 4:
                return width, height
            return height, width
    except (Image.DecompressionBombError, UnidentifiedImageError, OSError,
            SyntaxError, TypeError, ValueError):
        return None
