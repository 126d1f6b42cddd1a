"""The published graph, as costs and APs, and two small progressions."""
import copy
from pathlib import Path

import pytest

from mtpd.distill.distiller import FeatureDistiller
from mtpd.order.costs import AdaptationCosts
from mtpd.progression import run_progression

# Published graph of the paper, with the two edges that it does not draw.
PUBLISHED = {('S', 'I'): .939, ('S', 'II'): .060, ('I', 'II'): .070,
             ('II', 'I'): 1.181, ('I', 'III'): .934, ('II', 'III'): 1.94,
             ('I', 'IV'): .963, ('II', 'IV'): 1.401, ('III', 'IV'): .89,
             ('S', 'III'): 2.5, ('S', 'IV'): 3.0}


@pytest.fixture
def published() -> AdaptationCosts:
    names = ('S', 'I', 'II', 'III', 'IV')
    return AdaptationCosts(
        names, (8, 16), mse={
            (a, b): {8: PUBLISHED.get((a, b), 5.) - .01,
                     16: PUBLISHED.get((a, b), 5.) + .01}
            for a in names for b in names if a != b},
        variance={n: {8: 2., 16: 2.} for n in names},
        positions={8: 100, 16: 25})


@pytest.fixture
def aps() -> dict[str, float]:
    return {'I': 38.2, 'II': 38.7, 'III': 42.3, 'IV': 47.0}


@pytest.fixture
def limits():
    """resolution(costs, at 8, at 16), given as parts of the variance."""
    def resolution(costs: AdaptationCosts, fine: float, coarse: float):
        return {(a, b): {8: fine * costs.variance[b][8],
                         16: coarse * costs.variance[b][16]}
                for a, b in costs.mse}
    return resolution


@pytest.fixture(scope='session')
def found_run(toy_in, tmp_path_factory) -> Path:
    """Work dir of a finished progression whose order was found by costs: swin
    alone. To look at and not to change."""
    cfg = toy_in(tmp_path_factory.mktemp('found') / 'work', order='bgs')
    return _run(cfg)


@pytest.fixture(scope='session')
def stopped_run(toy_in, tmp_path_factory) -> Path:
    """Work dir of a progression of a given order, wide and swin, that stopped
    in its second stage before iteration 6 of 6, went on from iteration 3 and
    stopped again before 5."""
    cfg = toy_in(tmp_path_factory.mktemp('stopped') / 'work')
    whole = FeatureDistiller.loss
    for last, resume in ((11, False), (1, True)):
        steps = 0

        def dies(self, *args):
            nonlocal steps
            if steps == last:
                raise KeyboardInterrupt
            steps += 1
            return whole(self, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FeatureDistiller, 'loss', dies)
            with pytest.raises(KeyboardInterrupt):
                _run(copy.deepcopy(cfg), resume=resume)
    return Path(cfg.work_dir)


def _run(cfg, **options) -> Path:
    run_progression(cfg, with_probe=False, **options)
    return Path(cfg.work_dir)
