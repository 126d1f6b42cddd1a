"""The table of docs/configs.md, from the first lines of the configs.

    python maintain/list_configs.py configs/paper

A folder is relative to the repository, or absolute. The table has every config
whose first comment has these parts. A direct baseline, NAME_direct.py, stands
in the line of NAME.py:

    # What it trains.
    # Source: where that is published.
    # Expected: AP, and whether it was run.
    # GPU hours: of all commands.
    #   python tools/train.py configs/...     (the commands to run, in order)
"""
import argparse
import re
from pathlib import Path
from typing import Iterable, NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent

_PARTS = re.compile(
    r'(?P<title>.+?) Source: (?P<source>.+?) Expected: (?P<expected>.+?) '
    r'GPU hours: (?P<hours>.+?) python tools/', re.DOTALL)


class Header(NamedTuple):
    """The first lines of a config.

    Attributes:
        title: What it trains.
        source: Where that is published, and what we added.
        expected: AP, and where the number is from.
        hours: GPU hours.
        commands: To be run, in order.
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
    comment = ' '.join(lines)
    match = _PARTS.match(comment)
    if match is None:
        return None
    parts = {name: text.rstrip('.') for name, text in
             match.groupdict().items()}
    rest = comment[match.end() - len('python tools/'):].replace('\\ ', '')
    commands = [f'python {command.strip()}'
                for command in rest.split('python ')[1:]]
    return Header(**parts, commands=tuple(commands))


def table(folders: Iterable[Path], root: Path) -> str:
    """Markdown, one row per config that has a header.

    Args:
        folders: Below ``root``, relative to it or absolute.
        root: The repository; links are relative to its docs/.

    Raises:
        ValueError: There is no such folder, it lies elsewhere, or it has no
            config with a header.
    """
    rows = ['|config |what it trains |box(/mask) AP |direct |',
            '|---|---|---|---|']
    for folder in folders:
        whole = (root / folder).resolve()
        if not whole.is_dir():
            raise ValueError(f'There is no folder {whole}. Name a folder of '
                             'configs, such as configs/paper.')
        if not whole.is_relative_to(root.resolve()):
            raise ValueError(f'{whole} is not below {root.resolve()}, and the '
                             'links of the table are relative to its docs.')
        before = len(rows)
        for path in sorted(whole.rglob('*.py')):
            header = read_header(path.read_text())
            if header is not None:
                name = path.relative_to(root.resolve()).as_posix()
                short = path.relative_to(whole).as_posix()
                rows += _row(path, name, short, header)
        if len(rows) == before:
            raise ValueError(f'No config in {whole} has a header. --help '
                             'shows its form.')
    return '\n'.join(rows)


def _row(path: Path, name: str, short: str, header: Header) -> list[str]:
    """The line of a config; none for the direct baseline of another one,
    which stands in that one's last column."""
    chain = path.with_name(path.name.replace('_direct.py', '.py'))
    if chain != path and chain.is_file():
        return []
    baseline, last = path.with_name(f'{path.stem}_direct.py'), ''
    if baseline.is_file():
        direct = read_header(baseline.read_text())
        if direct is not None:
            last = (f'[{_ap(direct)}](../'
                    f'{name.removesuffix(".py")}_direct.py) ')
    cells = f'[{short}](../{name})', header.title, _ap(header)
    return [f'|{" |".join(cells)}{" |" if last else "|"}{last}|']


def _ap(header: Header) -> str:
    """The expected AP without what the page says once for all."""
    short = re.sub(r'\bbox (/ mask )?AP ', '',
                   header.expected.partition(';')[0])
    return short.replace(' / ', '/').replace('not known to us', 'unknown')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='+', type=Path)
    try:
        print(table(parser.parse_args().folders, REPOSITORY))
    except ValueError as error:
        parser.exit(1, f'{error}\n')


if __name__ == '__main__':
    main()
