"""Draw the demo's data set (see mtpd/data/drawn_shapes.py).

    python tools/draw_shapes.py configs/demo/dataset.py

The config's `drawn_shapes` sets the folder and the number and size of images.
A finished folder with the same parameters is not drawn again.
"""
import argparse

from mmengine.config import Config

from mtpd.data.drawn_shapes import draw_shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config')
    parameters = Config.fromfile(parser.parse_args().config).drawn_shapes
    draw_shapes(**parameters)
    print('Drawn shapes: {train} training and {val} validation images of '
          '{size[0]}x{size[1]} in {folder}'.format(**parameters))


if __name__ == '__main__':
    main()
