"""From a config and a checkpoint to a file that was compared with them."""
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from mmdet.registry import MODELS
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope

from mtpd.compat.atomic_files import atomic_write
from mtpd.compress.layers.convert import use_constant_weights
from mtpd.distill.detector import load_weights
from mtpd.plan.detectors import DetectorSpec, load_config
from mtpd.predict.inputs import UnusableInput
from mtpd.predict.onnx_file import INSTALL
from mtpd.predict.onnx_predictor import known_steps
from mtpd.predict.test_set import metainfo, test_dataset

from .agreement import EIGHT_BITS, ROUNDING, Agreement, Tolerance
from .check import compare, expected_boxes
from .images import Reader, calibration_paths, check_batches
from .int8 import quantize
from .metadata import describe, lower_threshold, write_metadata
from .support import NotExportable, check_support
from .trace import trace_file
from .validation import (EIGHT_BITS_AP, ROUNDING_AP, both_metrics,
                         decide)

class Exported(NamedTuple):
    """What was written, and how it compares.

    Attributes:
        path: The file.
        size: Of the file, in bytes.
        threshold: The ``score_thr`` of the comparison.
        rows: The comparisons by precision, and in each by kind of images.
        metrics: Name -> value of the detector and of the file; empty if they
            were not asked for.
        calibrated: Number of training images that 8 bits were calibrated
            with; None for a file in float.
    """
    path: str
    size: int
    threshold: float
    rows: dict[str, list[Agreement]]
    metrics: dict[str, tuple[float, float]]
    calibrated: int | None


def export_onnx(config: str, checkpoint: str, out: str,
                calibrate: int | None = None, images: int = 8,
                validate: bool = False, overwrite: bool = False) -> Exported:
    """Write a detector as an ONNX file that finds what the detector finds.

    The file holds all steps from the bytes of the resized image to the boxes.
    It appears under its name when it has passed every comparison.

    Args:
        config: Config file, or ``mmdet::family/name.py``.
        checkpoint: File or URL.
        out: The file to write, ``.onnx``.
        calibrate: Number of training images to calibrate 8 bits with, fewer
            if there are no more; None for a file in float.
        images: Number of test images to compare with.
        validate: Whether the metrics of the test set are compared, too.
        overwrite: Whether a file at ``out`` is replaced.

    Raises:
        NotExportable: The detector has a part that a file cannot hold, or the
            file finds something else.
        UnusableInput: A package, image or setting is missing, or ``out``
            cannot be written.
        CheckpointMismatch: The checkpoint is of another model.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UnusableInput(
            'The export needs the packages onnx and onnxruntime, and one '
            f'cannot be imported ({error}). Install them: {INSTALL}'
            ) from error
    _check_target(out, overwrite)
    cfg = load_config(config)
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    dataset = test_dataset(cfg)
    steps = known_steps(dataset.get('pipeline') or [], 'The test pipeline')
    reader = Reader(steps)
    training = None if calibrate is None \
        else calibration_paths(cfg, reader, calibrate)
    batches = check_batches(cfg, reader, images)
    detector = MODELS.build(DetectorSpec('student', cfg, checkpoint).model)
    load_weights(detector, checkpoint, 'the checkpoint')
    detector = revert_sync_batchnorm(detector).eval()
    check_support(detector)
    threshold, expected = expected_boxes(detector, batches)
    about = describe(detector, {**metainfo(dataset), **detector.dataset_meta},
                     steps)
    rows: dict[str, list[Agreement]] = {}
    metrics: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'float.onnx')
        use_constant_weights(detector)
        trace_file(detector, batches[0].images, path)

        def check(about: dict[str, Any], within: Tolerance) -> None:
            """Compare the file at ``path`` with the detector."""
            lowered = Path(folder, 'lowered.onnx')
            write_metadata(path, about)
            lower_threshold(path, lowered, threshold)
            rows[about['precision']] = compare(lowered, batches, expected,
                                               within)

        check(about, ROUNDING)
        _refuse_other_boxes(rows['float32'], ROUNDING)
        if training is not None:
            source, path = path, Path(folder, 'int8.onnx')
            quantize(source, path, map(reader.calibration, training),
                     about['score_thr'])
            check({**about, 'precision': 'int8'}, EIGHT_BITS)
        if validate:
            cfg.work_dir = folder
            metrics = both_metrics(
                cfg, checkpoint, path,
                ROUNDING_AP if training is None else EIGHT_BITS_AP)
        # The AP says more of a file that rounds, if there is one.
        if training is not None and not decide(metrics):
            _refuse_other_boxes(rows['int8'], EIGHT_BITS)
        atomic_write(out, path.read_bytes())
    return Exported(out, os.path.getsize(out), threshold, rows, metrics,
                    None if training is None else len(training))


def _check_target(out: str, overwrite: bool) -> None:
    """Before minutes of work, whether the file can be written."""
    path = Path(out)
    if path.suffix.lower() != '.onnx' or path.is_dir():
        raise UnusableInput(f'--out {out} has to be the name of a file that '
                            'ends in .onnx, by which tools/predict.py knows '
                            'it.')
    if os.path.lexists(path) and not overwrite:
        raise UnusableInput(f'{out} exists already. Add --overwrite to '
                            'replace it, or choose another name by --out.')
    folder = next(one for one in path.absolute().parents if one.exists())
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UnusableInput(f'--out {out} cannot be written to '
                            f'({error.strerror}). Name another folder.') \
            from error


def _refuse_other_boxes(rows: Sequence[Agreement], within: Tolerance) -> None:
    for row in rows:
        if not within.allows(row):
            raise NotExportable(
                f'The file finds other boxes than the detector in {row.name}: '
                f'{row.found} and {row.expected}, of which {row.matched} are '
                'the same'
                + ('' if row.mask is None else
                   f', with {row.mask:.0%} of their masks')
                + '. It was not written. '
                + ('A part of the detector works only for images of the '
                   'traced size, or in another way in onnxruntime.'
                   if within is ROUNDING else
                   'This is more than 8 bits should change: calibrate with '
                   'more images, compare the AP of labelled test images with '
                   '--validate, or leave --int8 out.'))
