"""Test a checkpoint on the config's test set, as mmdet's tools/test.py does.

    python tools/test.py work_dirs/x/student.py work_dirs/x/student.pth

The config may also be that of a progression, with a checkpoint of any stage.
"""
import os
import runpy
from pathlib import Path
from types import SimpleNamespace

# Alone, because the package takes ten seconds to import.
SHARED = SimpleNamespace(**runpy.run_path(
    str(Path(__file__).parents[1] / 'mtpd' / 'flags.py')))


def main() -> None:
    flags = SHARED.parser(__doc__)
    flags.add_argument('checkpoint', type=os.path.expanduser,
                       help='file or URL')
    flags.add_argument('--out', metavar='FILE.pkl',
                       type=os.path.expanduser,
                       help='also write all predictions to this file')
    flags.add_argument('--show-dir', metavar='FOLDER',
                       type=os.path.expanduser,
                       help='also write the images with the boxes drawn')
    flags.add_argument('--tta', action='store_true',
                       help='merge several views of each image, as tta_model '
                       'and tta_pipeline of the config say')
    args = flags.parse_args()
    SHARED.stop_if(SHARED.missing_config(args.config),
                   SHARED.missing_file(args.checkpoint),
                   *SHARED.unwritable_file(args.out, '--out'),
                   *SHARED.unwritable(args.show_dir or '.', '--show-dir ',
                                      '--show-dir'))
    from mtpd.command_line import plain_errors, read_config
    from mtpd.compat.processes import init_processes
    from mtpd.predict import UnusableInput, evaluate_checkpoint
    with plain_errors() as command:
        if args.out and not args.out.endswith(('.pkl', '.pickle')):
            raise UnusableInput(f'--out {args.out}: the predictions are '
                                'pickled. Name a file that ends in .pkl.')
        cfg = command.config = read_config(args)
        if not args.work_dir:
            # Not among the stages of a progression.
            cfg.work_dir = os.path.join(cfg.work_dir, 'test')
        init_processes(cfg)
        evaluate_checkpoint(cfg, args.checkpoint, args.out, args.show_dir,
                            args.tta)


if __name__ == '__main__':
    main()
