"""Every path in the folder of a progression, and the JSON files there."""
import fcntl
import json
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Iterator

from mtpd.processes import on_main

from .errors import PlanError

ALONE = 'alone'
"""What stands for the teachers where none takes part."""

# Of what is there: earlier versions recorded less.
_RECORD = {'identity': {'order': [str], 'teachers': dict, 'distill': dict},
           'aps': dict, 'versions': dict, 'starts': [dict]}


class UnreadableHistory(ValueError):
    """A folder that is no progression, or a file in it that is broken."""


@dataclass(frozen=True)
class StageDir:
    """The folder of one stage, an ordinary mmengine run.

    Attributes:
        folder: Its path.
    """
    folder: str

    @property
    def student(self) -> str:
        """What the stage hands on; its presence makes the stage finished."""
        return os.path.join(self.folder, 'student.pth')

    @property
    def fitted_adapters(self) -> str:
        """The linear maps from which the stage's adapters start."""
        return os.path.join(self.folder, 'fitted_adapters.pth')

    @property
    def validations(self) -> str:
        """Metrics of each validation."""
        return os.path.join(self.folder, 'validations.json')


@dataclass(frozen=True)
class WorkDir:
    """The folder of a progression.

    Attributes:
        folder: Its path, ``work_dir`` of the user's config.
    """
    folder: str

    @property
    def config(self) -> str:
        """The user's config as it was run."""
        return self._path('config.py')

    @property
    def record(self) -> str:
        """What is run: hashes, order, costs, versions, starts. Its presence
        means that the progression has started."""
        return self._path('progression.json')

    @property
    def seed(self) -> str:
        """The seed that was drawn because the config has none."""
        return self._path('seed.json')

    @property
    def lock(self) -> str:
        """Locked while a run trains here."""
        return self._path('.lock')

    @property
    def start(self) -> str:
        """The weights of the first stage, where ``student.checkpoint`` alone
        is not what it starts from."""
        return self._path('start.pth')

    @property
    def sliced(self) -> str:
        """The student as it was sliced, see ``student.sliced_from``."""
        return self._path('sliced.pth')

    @property
    def measured(self) -> str:
        """APs and latencies of detectors, so that none is measured twice."""
        return self._path('measured.json')

    @property
    def student(self) -> str:
        """The result, a plain mmdet checkpoint."""
        return self._path('student.pth')

    @property
    def student_config(self) -> str:
        """The plain mmdet config of the result."""
        return self._path('student.py')

    @property
    def results(self) -> str:
        """The table of ``tools/from_scratch.py``."""
        return self._path('results.json')

    @property
    def report(self) -> str:
        """The page of ``tools/report.py``."""
        return self._path('report.html')

    @property
    def baseline(self) -> str:
        """The work dir of the student trained without a teacher."""
        return self._path(ALONE)

    @property
    def scratch(self) -> str:
        """The work dir of the student trained from its first weights."""
        return self._path('scratch')

    @property
    def variants(self) -> str:
        """The table of ``tools/compress.py --compare``."""
        return self._path('variants.json')

    @property
    def order_folder(self) -> str:
        """Where the search for the order writes."""
        return self._path('order')

    @property
    def order_file(self) -> str:
        """The order with its costs and reasons."""
        return self._path('order', 'order.json')

    @property
    def order_chart(self) -> str:
        """The graph of costs with the order, PNG."""
        return self._path('order', 'teacher_order.png')

    def moments(self, digest: str) -> str:
        """The folder of the moments of one choice of images.

        Args:
            digest: What tells the choices apart.
        """
        return self._path('order', f'moments_{digest}')

    def pool(self, name: str) -> str:
        """The work dir of a detector of the pool that is trained first.

        Args:
            name: The detector's.
        """
        return self._path('pool', name)

    def stage(self, index: int, label: str, taught: bool = True) -> StageDir:
        """The folder of a stage, such as ``stage1_swin_t``, or
        ``stage1_alone`` where the student trains without a teacher.

        Args:
            index: From 1.
            label: Its teachers, see ``stage_label``.
            taught: Whether they take part.
        """
        named = StageDir(self._path(f'stage{index}_{label}'))
        # Earlier versions named every folder after a teacher.
        if taught or os.path.isdir(named.folder):
            return named
        return StageDir(self._path(f'stage{index}_{ALONE}'))

    def _path(self, *names: str) -> str:
        return os.path.join(self.folder, *names)


@contextmanager
def only_run(work_dir: WorkDir) -> Iterator[None]:
    """Keep other runs from training into the same folder. The lock ends with
    the first process, however that ends.

    Raises:
        PlanError: Another run trains there.
    """
    with ExitStack() as end:
        def acquire() -> None:
            os.makedirs(work_dir.folder, exist_ok=True)
            file = os.open(work_dir.lock, os.O_RDWR | os.O_CREAT, 0o666)
            end.callback(os.close, file)
            try:
                # Not by flock, as filelock does: the workers of a killed run
                # would hold that lock for some seconds.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                raise PlanError([
                    f'Another run is training in {work_dir.folder}. Wait for '
                    'it or end it, or choose another --work-dir. If there is '
                    f'none, remove {work_dir.lock}.']) from error
            except OSError:  # a file system without locks
                pass

        on_main(acquire)
        yield


def read_json(path: str, form: Any, cure: str) -> Any:
    """What a JSON file holds; None where there is no such file.

    Args:
        path: The file.
        form: What it should hold: a type; a list of one form, which all
            entries have; or a dict of the forms of some keys, which need not
            be there, with ``...`` for all keys.
        cure: What to do if it does not.

    Raises:
        UnreadableHistory: It is torn, or has another form.
    """
    if not os.path.isfile(path):
        return None
    try:
        with open(path) as file:
            content = json.load(file)
    except ValueError as error:
        raise UnreadableHistory(f'{path} is no JSON ({error}). {cure}') \
            from error
    if not _has_form(content, form):
        raise UnreadableHistory(f'{path} is damaged: it does not hold what '
                                f'was written there. {cure}')
    return content


def read_progression(path: str) -> dict[str, Any]:
    """``progression.json``; empty where there is none.

    Args:
        path: The file.

    Raises:
        UnreadableHistory: It is damaged.
    """
    return read_json(path, _RECORD, 'Restore it, or run the '
                     'progression anew in another --work-dir.') or {}


def _has_form(content: Any, form: Any) -> bool:
    if isinstance(form, list):
        return isinstance(content, list) and all(
            _has_form(entry, form[0]) for entry in content)
    if not isinstance(form, dict):
        return isinstance(content, form)
    return isinstance(content, dict) and all(
        _has_form(entry, form.get(key, form.get(..., object)))
        for key, entry in content.items())
