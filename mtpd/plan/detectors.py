"""A detector of the pool as the config names it."""
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Mapping
from urllib.parse import urlparse

from mmdet.models.detectors import BaseDetector
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.utils import import_modules_from_strings

from mtpd.backbones import fill_in_channels, fill_in_normalisation
from mtpd.compat.checkpoints import checkpoint_hash, fetch_checkpoint
from mtpd.config_types import as_code, imported_modules, with_names
from mtpd.distill.detector import build_detector

from .errors import PlanError


SOURCE = 'student.sliced_from'
"""The name of the detector that the student is a slice of."""


@dataclass(frozen=True)
class DetectorSpec:
    """A detector of the pool, or the student.

    Attributes:
        name: Its key in ``mtpd.teachers``; ``student`` for the student.
        config: Its whole mmdet config.
        checkpoint: File or URL; None (student only) for no weights.
        ap: Box AP as declared, in percent; None to be measured.
        scale: Size of its images over the student's.
        sliced_from: The detector that the student is a slice of; None for
            none. ``checkpoint`` is then the file of the slice, which
            preparing the progression writes.
    """
    name: str
    config: Config
    checkpoint: str | None
    ap: float | None = None
    scale: Fraction = Fraction(1)
    sliced_from: 'DetectorSpec | None' = None

    @property
    def field(self) -> str:
        """Where the user wrote it."""
        return f'mtpd.{self.name}' if self.name in ('student', SOURCE) \
            else f'mtpd.teachers.{self.name}'

    @property
    def model_field(self) -> str:
        """Where its model stands, for messages."""
        return 'model' if self.name == 'student' \
            else f'{self.field}.config: model'

    @property
    def checkpoint_field(self) -> str:
        """Where the user wrote the checkpoint."""
        return f'{self.field}.checkpoint'

    @property
    def model(self) -> ConfigDict:
        """The ``model`` part, with its data preprocessor inside."""
        model = self.config.model.copy()
        if not model.get('data_preprocessor') and \
                self.config.get('data_preprocessor'):
            model.data_preprocessor = self.config.data_preprocessor
        return model

    @property
    def weights(self) -> str:
        """The checkpoint of a detector that has one, as every teacher has.

        Raises:
            ValueError: It has none.
        """
        if self.checkpoint is None:
            raise ValueError(f'{self.checkpoint_field} is None; expected a '
                             'file or URL of trained weights. Set it.')
        return self.checkpoint

    def build(self) -> BaseDetector:
        """The detector, with exactly its checkpoint's weights; without a
        checkpoint, with weights as constructed.

        Raises:
            CheckpointMismatch, CheckpointUnavailable, CorruptCheckpoint,
            UnsafeCheckpoint, FileNotFoundError: The checkpoint cannot be used.
            TypeError: The config builds no detector with a neck.
        """
        return build_detector(self.model, self.checkpoint,
                              self.checkpoint_field)

    def hash(self) -> str | None:
        """sha256 of the checkpoint file, None without one."""
        return None if self.checkpoint is None else checkpoint_hash(
            fetch_checkpoint(self.checkpoint))


def load_config(name: str) -> Config:
    """A config by path, or of an installed package (``mmdet::family/x.py``).

    mmengine's ``Config.fromfile`` does not know the second form. The classes
    of a pure-Python config become names. Where timm or torchvision makes the
    backbone, :func:`fill_in` writes what follows from it.

    Raises:
        FileNotFoundError: There is no such file or package.
        PlanError: It is no config, or its backbone's model cannot be built.
    """
    cfg = read_file(name)
    fill_in(cfg, name)
    return cfg


def read_file(name: str) -> Config:
    """The same as its author has written it, with nothing filled in.

    Args:
        name: As in :func:`load_config`.

    Raises:
        FileNotFoundError: There is no such file or package.
        PlanError: It is no config.
    """
    package, separator, _ = name.partition('::')
    # mmengine would pip-install a package that is not there.
    if separator and importlib.util.find_spec(package) is None:
        raise FileNotFoundError(f'package {package} is not installed')
    try:
        if separator:
            return with_names(get_config(name))
        cfg = Config.fromfile(name, import_custom_modules=False)
        _import_custom(cfg.get('custom_imports'), name)
        return with_names(cfg)
    except (FileNotFoundError, PlanError):
        raise
    except Exception as error:  # a config is a program and may raise anything
        raise PlanError([f'{name} cannot be read as a config '
                         f'({_with_place(error)}). Correct it.']) from error


def _import_custom(given: Any, name: str) -> None:
    """Import what a config asks for, in place of mmengine, which does not say
    which module failed, and passes over those of a pure-Python config.

    Args:
        given: ``custom_imports``.
        name: What the config is called in messages.

    Raises:
        PlanError: It has another form, or a module cannot be imported.
    """
    if not given:
        return
    if not _is_imports(given):
        names = given if isinstance(given, (list, tuple)) else [given]
        meant = f'; did you mean {as_code(dict(imports=list(names)))}?' \
            if all(isinstance(one, str) for one in names) else '.'
        raise PlanError([f"custom_imports of {name} is {as_code(given)}; it "
                         "has to be dict(imports=['MODULE', ...], "
                         f'allow_failed_imports=False){meant}'])
    may_fail = given.get('allow_failed_imports', False)
    for module in imported_modules({'custom_imports': given}):
        try:
            import_modules_from_strings([module], may_fail)
        except Exception as error:  # a module is a program, too
            cause: BaseException = error
            if isinstance(error, ImportError):
                # mmengine's, raised while that of the module is handled.
                cause = error.__context__ or error
            raise PlanError([
                f'custom_imports of {name}: the module {module!r} cannot be '
                f'imported ({_with_place(cause)}). '
                f'{_import_cure(module, cause)}']) from error


def _is_imports(given: Any) -> bool:
    """Whether mmengine takes ``custom_imports``."""
    if not isinstance(given, Mapping) or not {*given} <= {
            'imports', 'allow_failed_imports'}:
        return False
    names = given.get('imports')
    return names is None or isinstance(names, (str, list)) and all(
        isinstance(name, str) for name in names)


def _import_cure(module: str, cause: BaseException) -> str:
    """What to do about a module that cannot be imported."""
    if not isinstance(cause, ModuleNotFoundError):
        return "Correct the module's code."
    if cause.name and f'{module}.'.startswith(f'{cause.name}.'):
        return ('Correct its name, or run the command in the folder that it '
                'lies in (or name this folder in PYTHONPATH).')
    return ('Install the package, or, if it is your own file, run the '
            'command in its folder.')


def _with_place(error: BaseException) -> str:
    """An error, with the file and line of the user's where it was raised."""
    text = f'{type(error).__name__}: {error}'.removesuffix(': ')
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if frame.filename != __file__
              and not frame.filename.startswith(_NOT_THE_USERS)]
    if isinstance(error, SyntaxError) or not frames:
        return text  # which names them, or there are none
    return f'{text}, in {frames[-1].filename}, line {frames[-1].lineno}'


_NOT_THE_USERS = ('<', *{sys.prefix, sys.base_prefix})
"""How the files of code begin that no user has written."""


def fill_in(cfg: Config, name: str) -> None:
    """Write what a backbone of timm or torchvision decides into its config:
    the neck's channels and, where asked for, the images' normalisation.

    Args:
        cfg: The config; changed in place.
        name: What it is called in messages.

    Raises:
        PlanError: The backbone's model cannot be built.
    """
    try:
        fill_in_channels(cfg)
        fill_in_normalisation(cfg)
    except (ImportError, ValueError) as error:
        raise PlanError([f'model.backbone of {name}: {error}']) from error


def is_url(path: str) -> bool:
    """Whether a path is fetched and not opened."""
    return urlparse(path).scheme in ('http', 'https', 's3', 'petrel')
