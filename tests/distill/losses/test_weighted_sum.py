import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from mtpd.distill.losses import BatchContext, Pairing, WeightedSum

PAIRING = Pairing({8: 4, 16: 4}, two_stage=True)


def maps(seed: int = 0):
    torch.manual_seed(seed)
    return [{s: torch.randn(2, 4, 48 // s, 64 // s) for s in (8, 16)}
            for _ in range(2)]


def test_it_is_the_sum_of_its_parts(bare):
    total = WeightedSum(PAIRING, [dict(type='CWDLoss', tau=2.0),
                                  dict(type='PKDLoss', loss_weight=0.5)], 3.0)
    losses = total(*maps(), bare)
    expected = {}
    for name, cfg in (('cwd', dict(type='CWDLoss', tau=2.0)),
                      ('pkd', dict(type='PKDLoss', loss_weight=0.5))):
        part = MODELS.build({**cfg, 'pairing': PAIRING})(*maps(), bare)
        expected |= {f'loss_distill_{name}_s{s}':
                     3 * part[f'loss_distill_s{s}'].item() for s in (8, 16)}
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(expected)


def test_it_is_built_from_a_config_and_its_parts_take_the_pairing():
    total = MODELS.build(ConfigDict(type='WeightedSum', losses=[
        dict(type='CWDLoss'), dict(type='MGDLoss')]),
        default_args=dict(pairing=PAIRING))
    assert [p.loss_weight for p in total.losses] == [10, 5e-7]
    assert set(total.losses[1].generators) == {'8', '16'}


def test_parts_train_and_are_saved_with_it():
    total = WeightedSum(PAIRING, [dict(type='CWDLoss'), dict(type='MGDLoss')])
    assert 'losses.1.generators.8.0.weight' in total.state_dict()
    assert len(list(total.parameters())) == 8


def test_two_of_a_kind_carry_their_places(bare):
    total = WeightedSum(PAIRING, [
        dict(type='HiddenStateLoss', layers='last'), dict(type='PKDLoss'),
        dict(type='HiddenStateLoss', normalise=False)])
    assert list(total(*maps(), bare)) == [
        'loss_distill_hiddenstate0_s16', 'loss_distill_pkd_s8',
        'loss_distill_pkd_s16', 'loss_distill_hiddenstate2_s8',
        'loss_distill_hiddenstate2_s16']


def test_a_sum_in_a_sum_keeps_all_names_apart(bare):
    inner = dict(type='WeightedSum', losses=[dict(type='PKDLoss')])
    losses = WeightedSum(PAIRING, [inner, dict(type='PKDLoss')])(
        *maps(), bare)
    assert list(losses) == [
        'loss_distill_weightedsum_pkd_s8', 'loss_distill_weightedsum_pkd_s16',
        'loss_distill_pkd_s8', 'loss_distill_pkd_s16']


@pytest.mark.parametrize('types, adapts, scores', [
    (['LogitLoss'], False, True), (['AttentionTransferLoss'], False, False),
    (['AttentionTransferLoss', 'PKDLoss'], True, False),
    (['LogitLoss', 'CosineLoss'], True, True)])
def test_it_needs_what_any_part_needs(types, adapts, scores):
    total = WeightedSum(PAIRING, [dict(type=t) for t in types])
    assert (total.adapts_channels, total.uses_scores) == (adapts, scores)


@pytest.mark.parametrize('types, start', [
    (['FeatureL2Loss', 'LogitLoss'], 'zero'),
    (['FeatureL2Loss', 'PKDLoss'], 'random'), (['PKDLoss'], 'random')])
def test_adapters_start_at_zero_only_if_every_part_allows_it(types, start):
    total = WeightedSum(PAIRING, [dict(type=t) for t in types])
    assert total.adapter_start == start


def test_parts_of_weight_zero_are_left_out(bare):
    total = WeightedSum(PAIRING, [
        dict(type='LogitLoss', loss_weight=0.0),
        dict(type='AttentionTransferLoss')])
    assert not total.uses_scores and total.loss_weight == 1
    assert set(total(*maps(), bare)) == {
        'loss_distill_attentiontransfer_s8',
        'loss_distill_attentiontransfer_s16'}
    nothing = WeightedSum(PAIRING, [dict(type='PKDLoss', loss_weight=0.0)])
    assert nothing.loss_weight == 0 and nothing(*maps(), bare) == {}


def test_scores_and_maps_go_together(bare):
    scores = {8: tuple(torch.randn(2, 1, 6, 3, 4))}
    context = BatchContext(bare.size, bare.boxes, scores)
    total = WeightedSum(PAIRING, [dict(type='LogitLoss'),
                                  dict(type='CosineLoss')])
    assert set(total(*maps(), context)) == {
        'loss_distill_logit_s8', 'loss_distill_cosine_s8',
        'loss_distill_cosine_s16'}


def test_gradients_are_finite_differences(pairing, differentiates):
    differentiates(WeightedSum(pairing, [dict(type='CWDLoss'),
                                         dict(type='CosineLoss')], 0.5))


def test_every_part_checks_its_maps(bare):
    student, teacher = maps()
    student[16] = student[16][:, :, :-1]
    with pytest.raises(ValueError, match='PKDLoss at stride 16'):
        WeightedSum(PAIRING, [dict(type='PKDLoss')])(student, teacher, bare)


@pytest.mark.parametrize('losses', [[], ()])
def test_an_empty_sum_names_itself(losses):
    with pytest.raises(ValueError, match=r'distill.losses is .*at least one'):
        WeightedSum(PAIRING, losses)
