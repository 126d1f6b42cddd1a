"""Find objects in an image, a folder or a video, and draw their boxes.

    python tools/predict.py work_dirs/x/student.py work_dirs/x/student.pth \\
        photos/ --out predictions

Writes the drawn images and videos to --out, under their own names, and all
detections to predictions.json there. A file that cannot be read is named and
left out; the exit code is then 1.
"""
import argparse
import sys

from mmengine.device import get_device

from mtpd.command_line import plain_errors, use_own_modules
from mtpd.predict import Predictor, predict_files


def main() -> None:
    args = arguments()
    with plain_errors():
        use_own_modules()
        predictor = Predictor(args.config, args.checkpoint,
                              args.device or get_device(), args.threshold)
        result = predict_files(predictor, args.inputs, args.out, dict(
            config=args.config, checkpoint=args.checkpoint,
            threshold=args.threshold))
    print(f'{result.detections} detections in {result.done} of '
          f'{result.done + len(result.unread)} files: {result.json}')
    if result.unread:
        sys.exit('\n'.join(f'Not read: {path}: {why}'
                           for path, why in result.unread.items()))


def arguments() -> argparse.Namespace:
    flags = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument('config', help='config file of the detector, such as '
                       "a progression's student.py")
    flags.add_argument('checkpoint', help='file or URL')
    flags.add_argument('inputs', nargs='+', metavar='input',
                       help='image, video, or a folder of them')
    flags.add_argument('--out', default='predictions', metavar='FOLDER',
                       help='where results are written (%(default)s)')
    flags.add_argument('--threshold', type=score, default=0.3,
                       metavar='SCORE', help='leave out detections with a '
                       'lower score (%(default)s)')
    flags.add_argument('--device', help='such as cpu or cuda:1; a GPU unless '
                       'there is none')
    return flags.parse_args()


def score(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not from 0 to 1')
    return value


if __name__ == '__main__':
    main()
