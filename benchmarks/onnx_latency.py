"""How much faster a file is than its detector in torch.

    python benchmarks/onnx_latency.py my.py my.pth student.onnx [int8.onnx ...]

Both predict the same image of the test set in turn, in one process, with
OMP_NUM_THREADS threads: from the resized bytes to the boxes. Printed are the
medians, and the median of the ratios with its 95% interval.
"""
import argparse
import statistics
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope

from mtpd.command_line import plain_errors
from mtpd.deploy.images import Reader, check_batches
from mtpd.distill.detector import load_weights
from mtpd.plan.detectors import DetectorSpec, load_config
from mtpd.predict import OnnxDetector
from mtpd.predict.onnx_predictor import known_steps
from mtpd.predict.test_set import test_dataset
from mtpd.search.latency import timed
from mtpd.show.tables import text_table
from mtpd.statistics import median_interval


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument('config')
    flags.add_argument('checkpoint')
    flags.add_argument('files', nargs='+')
    flags.add_argument('--rounds', type=int, default=50)
    args = flags.parse_args()
    with plain_errors():
        cfg = load_config(args.config)
        init_default_scope('mmdet')
        steps = known_steps(test_dataset(cfg).pipeline, 'The test pipeline')
        images = check_batches(cfg, Reader(steps), 1)[0].images
        detector = MODELS.build(
            DetectorSpec('student', cfg, args.checkpoint).model).eval()
        load_weights(detector, args.checkpoint, 'the checkpoint')
        files = [OnnxDetector(path) for path in args.files]
    shape = images.shape[2:]
    batch = dict(inputs=list(torch.from_numpy(images)), data_samples=[
        DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape,
                                    scale_factor=(1., 1.)))])
    seconds = []
    with torch.no_grad():
        for _ in range(3 + args.rounds):
            seconds.append([timed(lambda: detector.test_step(batch)), *(
                timed(lambda file=file: file(images)) for file in files)])
    columns = list(zip(*seconds[3:], strict=True))
    rows = [('torch', f'{statistics.median(columns[0]) * 1e3:.1f}', None)]
    for path, column in zip(args.files, columns[1:], strict=True):
        ratios = [a / b for a, b in zip(columns[0], column, strict=True)]
        low, high = median_interval(ratios)
        rows.append((Path(path).name, f'{statistics.median(column) * 1e3:.1f}',
                     f'{statistics.median(ratios):.2f} '
                     f'({low:.2f} to {high:.2f})'))
    print(text_table(f'{shape[1]}x{shape[0]}, {torch.get_num_threads()} '
                     f'threads, {args.rounds} rounds', (
                         '', 'ms', 'times as fast'), rows))


if __name__ == '__main__':
    main()
