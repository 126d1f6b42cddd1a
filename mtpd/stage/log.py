"""What a stage's folder tells of its training: losses, APs, its student."""
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterable, Mapping

from .validations import read_validations

COLUMNS = {'AP': ('bbox_mAP', '/mAP'), 'AP50': ('bbox_mAP_50', '/AP50'),
           'AP75': ('bbox_mAP_75', '/AP75'), 'small': ('bbox_mAP_s',),
           'medium': ('bbox_mAP_m',), 'large': ('bbox_mAP_l',)}
"""Kind of AP -> how its name ends in a validation's metrics (CocoMetric's,
VOCMetric's)."""
_OF_TRAINING = {'lr', 'loss', 'step'}


@dataclass(frozen=True)
class Validation:
    """The student's AP at one time.

    Attributes:
        iteration: Number of iterations of its stage before it.
        aps: Some of :data:`COLUMNS` -> percent. A size that no object has is
            left out.
        epoch: The epoch that ended here, None if the log does not say it.
    """
    iteration: int
    aps: Mapping[str, float]
    epoch: int | None = None


@dataclass(frozen=True)
class StageHistory:
    """A stage that has begun.

    Attributes:
        index: From 1.
        teacher: Its name; several are joined by +.
        lines: Of its training log, each with ``step``, the iteration from 1,
            ascending. Of iterations that a resumed run repeated, the last.
        validations: By iteration.
        length: Iterations as far as the log goes.
        start_ap: The student's box AP in percent before it, None if unknown.
        end_ap: The box AP in percent of what it handed on, None if
            unfinished or unknown.
        seconds: Of training, in the process that finished it.
        weights: Its newest student, None before the first checkpoint.
        is_gone: Whether what it handed on was removed from its folder.
        limit: The ``max_epochs`` or ``max_iters`` that it was finished with,
            None if unfinished or unknown.
    """
    index: int
    teacher: str
    lines: tuple[Mapping[str, float], ...] = ()
    validations: tuple[Validation, ...] = ()
    length: int = 0
    start_ap: float | None = None
    end_ap: float | None = None
    seconds: float | None = None
    weights: str | None = None
    is_gone: bool = False
    limit: Mapping[str, int] | None = None

    @property
    def finished(self) -> bool:
        """Whether it has handed on its student."""
        return self.is_gone or self.seconds is not None


def read_log(folder: str, stage: StageHistory) -> StageHistory:
    """A stage with what its runs have logged; each start has a folder.

    A resumed run repeats what came after its checkpoint. Its lines replace
    those of an earlier run from the same iteration on.
    """
    lines: list[Mapping[str, float]] = []
    for path in sorted(Path(folder).glob('*/vis_data/scalars.json')):
        for text in path.read_text(errors='replace').splitlines():
            try:
                line = json.loads(text)
            except ValueError:  # torn when the process was killed
                continue
            # The others are validations'.
            if isinstance(line, dict) and line.keys() >= _OF_TRAINING:
                while lines and lines[-1]['step'] >= line['step']:
                    lines.pop()
                lines.append(line)
    validations = []
    for iteration, metrics in sorted(read_validations(folder).items()):
        validations.append(Validation(iteration, _aps(metrics),
                                      _epoch_at(lines, iteration)))
    length = max([int(line['step']) for line in lines[-1:]]
                 + [v.iteration for v in validations], default=0)
    return replace(stage, lines=tuple(lines), length=length,
                   validations=tuple(validations))


def _epoch_at(lines: Iterable[Mapping[str, float]],
              iteration: int) -> int | None:
    """The epoch that training was in, None if its log does not say it."""
    epochs = [int(line['epoch']) for line in lines
              if line['step'] <= iteration and 'epoch' in line]
    return epochs[-1] if epochs else None


def _aps(metrics: Mapping[str, float]) -> dict[str, float]:
    if not metrics:
        return {'AP': 0.}  # CocoMetric is silent where nothing was detected
    # pycocotools says -1 of a size that no object has.
    return {column: 100 * value for column, endings in COLUMNS.items()
            for key, value in metrics.items()
            if key.endswith(endings) and value >= 0}
