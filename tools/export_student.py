"""Write the student of a training checkpoint as a plain mmdet checkpoint.

    python tools/export_student.py work_dirs/x/stage2_swin_s/epoch_12.pth \\
        --out student.pth
"""
import argparse
import os
import runpy
from pathlib import Path
from types import SimpleNamespace

# Alone, because the package takes ten seconds to import.
SHARED = SimpleNamespace(**runpy.run_path(
    str(Path(__file__).parents[1] / 'mtpd' / 'flags.py')))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', type=os.path.expanduser,
                        help='of a stage, or of plain mmdet training')
    parser.add_argument('--out', required=True, type=os.path.expanduser,
                        help='the file to write')
    args = parser.parse_args()
    SHARED.stop_if(SHARED.missing_file(args.checkpoint),
                   *SHARED.unwritable_file(args.out, '--out'))
    from mtpd.command_line import plain_errors
    from mtpd.compress.files import refuse_existing
    from mtpd.plan.errors import PlanError
    from mtpd.progression import export_student
    with plain_errors():
        # Another file there is replaced.
        refuse_existing([args.out], [args.checkpoint], True, PlanError)
        meta = export_student(args.checkpoint, args.out)
    text = f'{args.out}: student'
    if meta['epoch'] is not None:
        text += f' after epoch {meta["epoch"]}'
    provenance = meta['mtpd']
    if 'stage' in provenance:
        text += f' of stage {provenance["stage"]} ({provenance["teacher"]})'
    print(text)


if __name__ == '__main__':
    main()
