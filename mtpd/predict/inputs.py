"""The images and videos that a user names, by file or by folder."""
import os
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

from mtpd.data.image_files import IMAGES, files_below

VIDEOS = {'.avi', '.flv', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg',
          '.ts', '.webm', '.wmv'}
# The formats in which a drawn image is written under its own name.
_WRITTEN = {'.bmp', '.jpeg', '.jpg', '.png', '.webp'}


class UnusableInput(ValueError):
    """What a user named cannot be predicted on or with."""


class Input(NamedTuple):
    """An image or a video.

    Attributes:
        path: Of the file.
        name: Below the folder that was named; of a file, its last part.
    """
    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """By its ending."""
        return self.path.suffix.lower() in VIDEOS

    @property
    def written_name(self) -> str:
        """Of the file with boxes."""
        suffix = self.path.suffix.lower()
        if self.is_video:
            return self.name if suffix == '.mp4' else f'{self.name}.mp4'
        return self.name if suffix in _WRITTEN else f'{self.name}.png'


def find_inputs(paths: Sequence[str], out: str) -> list[Input]:
    """The files that were named, and those below the folders by their names.

    Hidden files are passed over, and so is what was written to ``out``. A file
    that is named twice is taken once.

    Args:
        paths: Files and folders.
        out: The folder that results are written to.

    Raises:
        FileNotFoundError: There is no such file or folder.
        UnusableInput: A folder has no image and no video, or two files would
            be written to one.
    """
    found: dict[str, Input] = {}
    for path in paths:
        for one in _inputs_of(path, out):
            found.setdefault(os.path.abspath(one.path), one)
    written: dict[str, Input] = {}
    for one in found.values():
        other = written.setdefault(one.written_name, one)
        if other is not one:
            cure = 'Rename one' if one.path.parent == other.path.parent \
                else 'Name the folder that holds both'
            raise UnusableInput(
                f'{other.path} and {one.path} would both be written to '
                f'{one.written_name} in {out}. {cure}, or give each its own '
                '--out.')
    return [*found.values()]


def result_folder(out: str, inputs: Sequence[Input]) -> Path:
    """The folder of the results, made if it is missing.

    Args:
        out: Its path.
        inputs: Files that nothing is written over.

    Raises:
        UnusableInput: It cannot be made, or an input lies where its result
            would.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableInput(f'--out {out} cannot be written to '
                            f'({error.strerror}). Name another folder.') \
            from error
    for one in inputs:
        target = folder / one.written_name
        if os.path.exists(target) and target.samefile(one.path):
            raise UnusableInput(f'--out {out} would write over {one.path}. '
                                'Name another folder.')
    return folder


def _inputs_of(text: str, out: str) -> list[Input]:
    """One of the files and folders that :func:`find_inputs` gets."""
    path = Path(text)
    if '://' in text and not path.exists():
        raise UnusableInput(f'{text} is an address. Name files and '
                            'folders: videos of a network and cameras are '
                            'not read.')
    if not path.exists():
        raise FileNotFoundError(f'There is no file or folder {path} '
                                f'(relative to {os.getcwd()!r}).')
    below = [Input(path, path.name)] if path.is_file() else \
        list(_below(path, Path(out).resolve()))
    if not below and _is_within(path, out):
        raise UnusableInput(
            f'--out {out} is, or holds, {path}, and what lies there is '
            'taken for results. Name another folder.')
    if not below:
        raise UnusableInput(
            f'{path} has no image and no video. Files with these endings '
            f'are taken: {" ".join(sorted(IMAGES | VIDEOS))}')
    return below


def _is_within(path: Path, folder: str) -> bool:
    inner, outer = path.resolve(), Path(folder).resolve()
    return inner == outer or outer in inner.parents


def _below(folder: Path, out: Path) -> Iterator[Input]:
    names = files_below(str(folder), lambda name: Path(
        name).suffix.lower() in IMAGES | VIDEOS)
    for path in sorted(folder / name for name in names):
        if path.is_file() and out not in path.resolve().parents:
            yield Input(path, path.relative_to(folder).as_posix())
