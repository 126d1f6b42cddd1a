"""Image files below a folder."""
import os
from typing import Iterator

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
    """The images below a folder, by their paths relative to it, sorted within
    each folder. Hidden files and folders are passed over.

    Args:
        folder: The folder; links to folders in it are followed once.
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
            if is_image(name):
                yield os.path.relpath(os.path.join(root, name), folder)
