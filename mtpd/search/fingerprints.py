"""Hashes by which measurements are recognised again."""
import hashlib
import json
import os
from typing import Any, Iterator, Mapping

from mmdet.models.detectors import BaseDetector


def weights_hash(detector: BaseDetector) -> str:
    """A hash of the weights of a detector without a checkpoint."""
    digest = hashlib.sha256()
    for key, value in detector.state_dict().items():
        digest.update(key.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def fingerprint(config: Mapping | list) -> str:
    """A hash of a config and of every annotation file that it names."""
    plain = config.to_dict() if hasattr(config, 'to_dict') else config
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True,
                                       default=str).encode())
    for path in _annotation_files(plain):
        with open(path, 'rb') as file:
            digest.update(file.read())
    return digest.hexdigest()[:16]


def _annotation_files(part: Any) -> Iterator[str]:
    """Those that exist, at any depth of a config."""
    if isinstance(part, Mapping):
        path = os.path.join(part.get('data_root') or '',
                            str(part.get('ann_file') or ''))
        if part.get('ann_file') and os.path.isfile(path):
            yield path
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for inner in part:
            yield from _annotation_files(inner)
