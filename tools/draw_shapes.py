"""Draw the demo's data set (see mtpd/data/drawn_shapes.py).

    python tools/draw_shapes.py configs/demo/dataset.py

The config's `drawn_shapes` sets the folder and the number and size of images.
A finished folder with the same parameters is not drawn again.
"""
import argparse
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
    parser.add_argument('config', help='config file with drawn_shapes')
    args = parser.parse_args()
    SHARED.stop_if(SHARED.missing_config(args.config))
    from mtpd.command_line import plain_errors
    from mtpd.data.drawn_shapes import draw_shapes
    from mtpd.plan.detectors import load_config
    with plain_errors():
        parameters = load_config(args.config).get('drawn_shapes')
        try:
            draw_shapes(**parameters)
        except FileExistsError as error:
            parser.exit(1, f'{args.config}: drawn_shapes.folder: {error}\n')
        # Not there, no dict, another key, or a value that cannot be drawn.
        except (TypeError, ValueError) as error:
            parser.exit(1, f'{args.config}: drawn_shapes is {parameters!r}, '
                        f'which cannot be drawn ({error}). Set drawn_shapes='
                        "dict(folder='...', train=400, val=100, size=(128, "
                        '112), seed=0).\n')
    print('Drawn shapes: {train} training and {val} validation images of '
          '{size[0]}x{size[1]} in {folder}'.format(**parameters))


if __name__ == '__main__':
    main()
