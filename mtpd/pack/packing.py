"""From a checkpoint to the files of a packed one."""
import os
from dataclasses import dataclass
from typing import Any, Mapping, NamedTuple

from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import Tensor

from mtpd.compat.checkpoints import (check_sums, fetch_checkpoint,
                                     read_checkpoint)
from mtpd.compat.checksums import PACKED
from mtpd.compat.state_dicts import (AmbiguousWeights, FoundWeights,
                                     find_weights, not_finite)
from mtpd.compress.calibrate import IMAGES, image_problems, recalibrate
from mtpd.compress.files import config_files, refuse_existing
from mtpd.compress.layers import signs_and_scales
from mtpd.distill.detector import dataset_meta_of, load_weights
from mtpd.plan.detectors import DetectorSpec, is_url, load_config
from mtpd.provenance import as_plain
from mtpd.version import __version__

from .codes import Codebook, codebooks, decoded
from .errors import CannotPack
from .files import Files, files_of, in_16_bits, write_files
from .fine_tune import LR, fine_tune


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for.

    Attributes:
        checkpoint: Of the detector, file or URL.
        bits: The weights of a tensor share ``2 ** bits`` values.
        prune: Share of the weights that become zero.
        config: The detector's config, with training images; None packs the
            checkpoint without them.
        epochs: Of training of the values; 0 for none.
        lr: Its first learning rate.
        images: Number of training images for the batch norms.
        out: The file to write, ``.pth``; None for one beside the checkpoint.
        overwrite: Whether existing files are replaced.
    """
    checkpoint: str
    bits: int = 6
    prune: float = 0
    config: str | None = None
    epochs: int = 0
    lr: float = LR
    images: int = IMAGES
    out: str | None = None
    overwrite: bool = False


class Packed(NamedTuple):
    """What was made.

    Attributes:
        files: What was written.
        sizes: Name -> bytes: of the file that was given, of the weights in it
            in 32 bits, and of the two files.
        tensors: How many share values, and how many there are.
        zeros: Share of the weights of these tensors that is zero.
        left: The entries of the checkpoint that are not in the files.
        notes: How the weights were found in the checkpoint, if not at once,
            and which layers keep signs.
        images: Number of images that the batch norms saw; None without a
            config.
    """
    files: Files
    sizes: dict[str, int]
    tensors: tuple[int, int]
    zeros: float
    left: list[str]
    notes: tuple[str, ...]
    images: int | None


def pack(request: Request) -> Packed:
    """Pack a checkpoint.

    Args:
        request: What is asked for.

    Raises:
        CannotPack: With everything that is wrong; nothing was written.
        CheckpointMismatch, CheckpointUnavailable, CorruptCheckpoint,
            UnsafeCheckpoint: The checkpoint cannot be used.
        OSError: The files cannot be written.
    """
    cfg = checked(request)
    path = fetch_checkpoint(request.checkpoint)
    files = files_of(os.path.basename(path) if is_url(request.checkpoint)
                     else path, request.out)
    sources = [] if request.config is None else config_files(request.config)
    refuse_existing(files, [path, *sources], request.overwrite, CannotPack)
    check_sums(path)
    content = read_checkpoint(path)
    detector = None if cfg is None else _loaded(cfg, path)
    weights, notes, entry = _weights_of(path, content, detector)
    sizes = {'given': os.path.getsize(path), 'in 32 bits': sum(
        4 * value.numel() for value in weights.values())}
    signs, about = _signs(detector, weights)
    books = codebooks({key: value for key, value in weights.items()
                       if key not in signs}, request.bits, request.prune)
    packed = {**weights, **signs, **decoded(books)}
    images = None
    if cfg is not None and detector is not None:
        if request.epochs:
            detector = fine_tune(cfg, packed, books, request.epochs,
                                 request.lr)
            packed = detector.state_dict()
            packed |= signs_and_scales(detector, packed)
        # The batch norms see the weights as they will be in the file.
        detector.load_state_dict(in_16_bits(packed))
        images = recalibrate(detector, cfg, request.images)
        packed = detector.state_dict()
    if not_finite(packed):
        raise CannotPack([f'--lr {request.lr:g}: the fine-tuning ended with '
                          'weights that are not finite. Choose a lower one.'])
    sizes['plain'], sizes['compressed'] = write_files(files, dict(
        meta=_meta(content, request), state_dict=in_16_bits(packed)))
    return Packed(files, sizes, (len(books), len(packed)),
                  _share_of_zeros(packed, books),
                  _left(content, entry), notes + about, images)


def _left(content: Mapping[str, Any], entry: str) -> list[str]:
    """What a checkpoint holds besides its weights and ``meta``.

    Args:
        content: Of the checkpoint.
        entry: Where in it the weights were, as in :class:`FoundWeights`.
    """
    left = []
    for key, value in content.items():
        is_weight = not entry and isinstance(value, Tensor)
        if key != 'meta' and not is_weight \
                and not f'{entry}.'.startswith(f'{key}.'):
            left.append(str(key))
    return sorted(left)


def _signs(detector: BaseDetector | None, weights: Mapping[str, Tensor]
           ) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights of binary layers, which share no values, and a note."""
    signs = signs_and_scales(detector, weights) if detector else {}
    if not signs:
        return {}, ()
    return signs, (f'The weights of {len(signs)} binary layers are stored as '
                   'signs and scales, exactly',)


def checked(request: Request) -> Config | None:
    """The detector's config, if there is one.

    Raises:
        CannotPack: With everything in the request that cannot be used.
    """
    problems = []
    if not 1 <= request.bits <= 16:
        problems.append(f'--bits is {request.bits}; it has to be from 1 to '
                        '16, as the weights are stored in 16 bits.')
    if not 0 <= request.prune < 1:
        problems.append(f'--prune is {request.prune:g}; it has to be from 0 '
                        'to below 1, such as 0.3 for 30% of the weights.')
    if request.epochs and not 0 < request.lr <= 1:
        problems.append(f'--lr is {request.lr:g}; it has to be above 0 and '
                        f'at most 1, such as {LR:g}.')
    path = os.path.expanduser(request.checkpoint)
    if not is_url(path) and not os.path.isfile(path):
        problems.append(f'There is no checkpoint {request.checkpoint}.')
    cfg, of_config = _config_of(request)
    if problems or of_config:
        raise CannotPack(problems + of_config)
    return cfg


def _config_of(request: Request) -> tuple[Config | None, list[str]]:
    """The detector's config, and what is wrong with it."""
    if request.config is None:
        return None, []
    try:
        cfg = load_config(request.config)
    except OSError as error:
        return None, [f'There is no config {request.config} ({error}).']
    if not cfg.get('model'):
        return None, [f'{request.config} has no model. Name the config of a '
                      'detector.']
    if 'mtpd' in cfg:
        return None, [
            f'{request.config} is the config of a progression. Name the plain '
            'config of its student: student.py in its work dir.']
    return cfg, image_problems(cfg)


def _loaded(cfg: Config, path: str) -> BaseDetector:
    """The detector of a config, with a checkpoint's weights."""
    model = DetectorSpec('student', cfg, path).model
    try:
        detector: BaseDetector = MODELS.build(model)
    except Exception as error:  # whatever a part of mmdet may raise
        raise CannotPack([
            f'{cfg.filename}: its model cannot be built '
            f'({type(error).__name__}: {error}). Correct it.']) from error
    load_weights(detector, path, 'the checkpoint')
    return detector


def _weights_of(path: str, content: Mapping[str, Any],
                detector: BaseDetector | None) -> FoundWeights:
    """The weights of a checkpoint.

    Raises:
        CannotPack: There are none, or they cannot be packed.
    """
    try:
        found = find_weights(content, detector and detector.state_dict())
    except AmbiguousWeights as error:
        raise CannotPack([f'{path} {error}.']) from error
    weights = found.weights if detector is None else detector.state_dict()
    if not any(value.dim() > 1 for value in weights.values()):
        raise CannotPack([
            f'{path} holds no weights of a detector, but '
            f'{sorted(map(str, content))[:6]}. Name a checkpoint of mmdet.'])
    bad = not_finite(weights)
    if bad:
        raise CannotPack([f'{path}: {bad} holds numbers that are not finite. '
                          'Name a checkpoint from before.'])
    return found._replace(weights=weights)


def _meta(content: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """What the packed checkpoint says of itself."""
    meta = content.get('meta')
    kept = {}
    for key, value in (meta if isinstance(meta, Mapping) else {}).items():
        try:
            kept[key] = as_plain(value)
        except TypeError:  # a plain torch.load would refuse the file
            continue
    return {**kept, 'dataset_meta': as_plain(dataset_meta_of(content)),
            PACKED: dict(bits=request.bits, prune=request.prune,
                         epochs=request.epochs, mtpd=__version__)}


def _share_of_zeros(weights: Mapping[str, Tensor],
                    books: Mapping[str, Codebook]) -> float:
    zeros, count = 0, 0
    for key in books:
        zeros += int((weights[key] == 0).sum())
        count += weights[key].numel()
    return zeros / max(count, 1)
