"""Count what has to be read to understand a training step, a search, a stage.

    python benchmarks/concepts.py tools/train.py CONFIG [train's own flags]

CONTRIBUTING.md's numbers are of the demo's detectors with `--no-probe
--cfg-options train_cfg.max_epochs=1 mtpd.max_teachers=1 mtpd.costs.images=16`.

Runs the command and prints, for each of the three, the classes of mtpd and its
public functions outside of classes whose code ran in it. Private functions and
methods count as parts of the file or class that they belong to. What runs in a
step is not counted again for its stage.
"""
import os
import runpy
import sys
from types import FrameType
from typing import Any

# The outermost function of each.
ROOTS = {'training step': 'FeatureDistiller.loss', 'search': 'find_order',
         'stage': 'run_stage'}
PACKAGE = os.path.abspath('mtpd') + os.sep


class Counter:
    """A profiler that notes the names of what runs below each root."""

    def __init__(self) -> None:
        self.names: dict[str, set[tuple[str, str]]] = {k: set() for k in ROOTS}
        self._depth = dict.fromkeys(ROOTS, 0)

    def __call__(self, frame: FrameType, event: str, _arg: Any) -> None:
        code = frame.f_code
        if event not in ('call', 'return') or \
                not code.co_filename.startswith(PACKAGE):
            return
        for kind, root in ROOTS.items():
            if code.co_qualname == root:
                self._depth[kind] += 1 if event == 'call' else -1
            in_step = kind == 'stage' and self._depth['training step']
            if self._depth[kind] and not in_step:
                self.names[kind].add(
                    (code.co_filename[len(PACKAGE):], code.co_qualname))


def concepts(names: set[tuple[str, str]]) -> list[str]:
    """Classes and public functions, each with its file."""
    found = set()
    for file, qualified in names:
        first = qualified.split('.')[0]
        is_class = '.' in qualified and '<locals>' not in qualified
        if not first.startswith('<') and (is_class
                                          or not first.startswith('_')):
            found.add(f'{file} {first}')
    return sorted(found)


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ('-h', '--help'):
        print(__doc__)
        return
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    counter = Counter()
    sys.setprofile(counter)
    try:
        runpy.run_path(sys.argv[0], run_name='__main__')
    finally:
        sys.setprofile(None)
    for kind, names in counter.names.items():
        found = concepts(names)
        print(f'{kind}: {len(found)}')
        print(*(f'    {name}' for name in found), sep='\n')


if __name__ == '__main__':
    main()
