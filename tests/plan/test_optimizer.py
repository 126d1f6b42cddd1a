"""Optimizers and loops that cannot be made are told before any work."""
import copy

import pytest

from mtpd.progression import check


def told(problems: list[str], *words: str) -> None:
    """One problem, with these words; none without words."""
    assert len(problems) == len(words), problems
    assert all(map(str.__contains__, problems, words)), problems


@pytest.mark.parametrize('changes, words', [
    (dict(optimizer=dict(lr='abc')),
     "cannot be made by DefaultOptimWrapperConstructor (TypeError: '<' not"),
    (dict(optimizer=dict(lr=-1)), 'ValueError: Invalid learning rate: -1'),
    (dict(paramwise_cfg=dict(norm_decay_mult=0.)),
     'optim_wrapper.optimizer.weight_decay is not set. Set it'),
    (dict(constructor='LearningRateDecayOptimizerConstructor',
          paramwise_cfg=dict(decay_rate=.9, decay_type='layer_wise',
                             num_layers=6)),
     'made by LearningRateDecayOptimizerConstructor (NotImplementedError). '),
    (dict(constructor='NoSuchConstructor'),
     'NoSuchConstructor is not in the'),
    # What the registries know is told once, in their words.
    (dict(optimizer=dict(lrr=1)), 'optim_wrapper.optimizer.lrr is no argument')
])
def test_an_optimizer_that_cannot_be_made(toy, changes, words):
    cfg = toy(order=['wide'])
    cfg.merge_from_dict(dict(optim_wrapper=changes))
    told(check(cfg).problems, words)


def test_mixed_precision_does_not_hide_the_optimizer(toy):
    cfg = toy(order=['wide'])
    cfg.optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')
    assert check(cfg).problems == []
    cfg.optim_wrapper.optimizer.lr = -1
    told(check(cfg).problems, 'Invalid learning rate: -1')


@pytest.mark.parametrize('paramwise, words', [
    (dict(custom_keys={'bakbone': dict(lr_mult=.1)}),
     "no parameter of the student has 'bakbone' in its name, so it has no "
     "effect; did you mean 'backbone'?"),
    (dict(custom_key={'backbone': dict(lr_mult=.1)}),
     'custom_key is not read by DefaultOptimWrapperConstructor; did you mean '
     'optim_wrapper.paramwise_cfg.custom_keys?'),
    # Swin's key in a config that several models share
    (dict(custom_keys={'absolute_pos_embed': dict(lr_mult=.1),
                       'layer1': dict(lr_mult=.1)}), '')])
def test_keys_that_match_no_parameter(toy, paramwise, words):
    cfg = toy(order=['wide'])
    cfg.optim_wrapper.paramwise_cfg = paramwise
    checked = check(cfg)
    assert checked.problems == []
    told(checked.notes, *([words] if words else []))


@pytest.mark.parametrize('changes, words', [
    (dict(val_cfg=None), ['belong together, and val_cfg is not set. Set it; '
                          "val_cfg is usually dict(type='ValLoop')."]),
    (dict(val_cfg=dict(fp61=True)),
     ['val_cfg.fp61 is no argument of ValLoop; did you mean val_cfg.fp16?']),
    (dict(val_cfg=dict(type='Val')),
     ["val_cfg.type 'Val' is not known; did you mean 'ValLoop'?"]),
    (dict(train_cfg=dict(max_epoch=3)),
     ['train_cfg.max_epoch is no argument of EpochBasedTrainLoop; did you '
      'mean train_cfg.max_epochs?']),
    (dict(train_cfg=dict(by_epoch=True)), []),
    (dict(test_cfg=dict(type='TestLoop')),
     ['and test_dataloader and test_evaluator is not set. Set it, or all'])])
def test_loops_that_cannot_be_made(toy, changes, words):
    """mmengine tells so after the search for the order and the probe."""
    cfg = toy(order=['wide'])
    for field, value in changes.items():
        cfg[field] = value if value is None else {
            **copy.deepcopy(cfg.get(field) or {}), **value}
    told(check(cfg).problems, *words)
