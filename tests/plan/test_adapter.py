"""Where adapters have a convolution if nothing is set."""
import pytest

from mtpd.plan.describe import describe_plan
from mtpd.progression import make_plan

RECOMMENDED = dict(type='FeatureL2Loss', normalise=True, loss_weight='auto')


@pytest.mark.parametrize('settings, adapter', [
    ({}, 'conv'),
    (dict(distill=RECOMMENDED), 'conv'),
    (dict(adapter=None), 'conv'),
    # Another share of the gradient is no other mechanism.
    (dict(distill=dict(RECOMMENDED, loss_weight=dict(share=1))), 'conv'),
    (dict(distill=dict(RECOMMENDED, loss_weight=dict(share=1)),
          inherit='head'), 'auto'),
    (dict(distill=dict(RECOMMENDED, loss_weight=dict(share=1),
                       normalise=False)), 'auto'),
    (dict(inherit=['backbone']), 'conv'),
    # The student's maps are the teacher's then, channel by channel.
    (dict(inherit=['neck', 'head']), 'auto'),
    (dict(inherit='head'), 'auto'),
    (dict(inherit='head', adapter='conv'), 'conv'),
    # As ever with a mechanism of one's own choice.
    (dict(distill='paper'), 'auto'),
    (dict(distill=dict(RECOMMENDED, loss_weight=1.)), 'auto'),
    (dict(distill=dict(type='PKDLoss'), adapter=None), 'auto'),
    (dict(distill=dict(type='PKDLoss', loss_weight=dict(share=1))), 'auto'),
    (dict(adapter='auto'), 'auto')])
def test_the_default_has_a_convolution_at_every_level(
        toy, settings, adapter):
    cfg = toy()
    del cfg.mtpd.distill
    cfg.mtpd.update(settings)
    plan = make_plan(cfg)
    assert plan.adapter == adapter
    assert ('with a convolution at every level' in describe_plan(plan)) \
        == (adapter == 'conv')
