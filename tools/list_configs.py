"""The table of docs/configs.md, from the first lines of the configs.

    python tools/list_configs.py configs/paper

A config is in it if its first comment has the four parts that this one has:

    # What it trains.
    # Source: what says so.
    # Expected: AP, and whether it was run.
    # GPU hours: of the whole of it.
    #   python tools/train.py configs/...     (what has to be run, in order)
"""
import argparse
import re
from pathlib import Path
from typing import NamedTuple

_PARTS = re.compile(
    r'(?P<title>.+?) Source: (?P<source>.+?) Expected: (?P<expected>.+?) '
    r'GPU hours: (?P<hours>.+?) python tools/', re.DOTALL)


class Header(NamedTuple):
    """The first lines of a config.

    Attributes:
        title: What it trains.
        source: Where that is published, and what is our reading.
        expected: AP and where it is from.
        hours: GPU hours.
        commands: What has to be run, in order.
    """
    title: str
    source: str
    expected: str
    hours: str
    commands: tuple[str, ...]


def read_header(text: str) -> Header | None:
    """The header of a config's text; None where it has another form."""
    lines = []
    for line in text.splitlines():
        if not line.startswith('#'):
            break
        lines.append(line[1:].strip())
    said = ' '.join(lines)
    found = _PARTS.match(said)
    if found is None:
        return None
    commands = said[found.end() - len('python tools/'):].replace('\\ ', '')
    return Header(
        **{k: v.rstrip('.') for k, v in found.groupdict().items()},
        commands=tuple(f'python {c.strip()}'
                       for c in commands.split('python ')[1:]))


def table(folders: list[Path], root: Path) -> str:
    """Markdown, one row per config that has a header.

    Args:
        folders: Below ``root``.
        root: The repository; links are relative to its docs/.
    """
    rows = ['| config | what it trains | expected |', '|---|---|---|']
    for folder in folders:
        for path in sorted((root / folder).rglob('*.py')):
            header = read_header(path.read_text())
            if header is not None:
                name = path.relative_to(root).as_posix()
                short = path.relative_to(root / folder).as_posix()
                rows.append(f'| [{short}](../{name}) | {header.title} | '
                            f'{header.expected} |')
    return '\n'.join(rows)


if __name__ == '__main__':
    made = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument('folders', nargs='+', type=Path)
    print(table(made.parse_args().folders, Path('.')))
