"""Everything from scratch: train student and pool, order, distil, compare.

    python tools/from_scratch.py configs/bccd/progression.py

For data sets on which no trained detectors exist yet. Every detector whose
checkpoint file does not exist is trained with its own config. Then the
config's progression runs, then its control: the student trained on alone for
as many stages with the same restarts (the progression with distillation weight
0). One table shows them all. Run again after a stop, it resumes.
"""
import runpy
from pathlib import Path
from types import SimpleNamespace

# Alone, because the package takes ten seconds to import.
SHARED = SimpleNamespace(**runpy.run_path(
    str(Path(__file__).parents[1] / 'mtpd' / 'flags.py')))


def main() -> None:
    flags = SHARED.parser(__doc__)
    flags.add_argument('--no-probe', action='store_true',
                       help='start without the three trial steps per stage')
    args = flags.parse_args()
    SHARED.stop_if(SHARED.missing_config(args.config))
    from mtpd.commands.from_scratch import from_scratch
    from_scratch(args)


if __name__ == '__main__':
    main()
