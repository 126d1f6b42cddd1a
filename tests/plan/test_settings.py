import pytest

from mtpd.plan.settings import CostSettings, read_cost_settings


def test_defaults_and_what_is_given():
    assert read_cost_settings(None) == (CostSettings(), [])
    settings, problems = read_cost_settings(dict(
        images=64, split='val', sequential=2))
    assert not problems
    assert settings == CostSettings(images=64, split='val', sequential=2)
    assert CostSettings(**settings.to_json()) == settings


@pytest.mark.parametrize('given, words', [
    (3, 'mtpd.costs is 3; it has to be dict'),
    (dict(image=64), 'mtpd.costs.image is not known; did you mean '
                     'mtpd.costs.images?'),
    (dict(xyz=64), 'mtpd.costs.xyz is not known. Known: images, split'),
    (dict(images='some'), "mtpd.costs.images is 'some'; it has to be 'all'"),
    (dict(images=0), 'mtpd.costs.images is 0'),
    (dict(images=True), 'mtpd.costs.images is True'),
    (dict(split='test'), "mtpd.costs.split is 'test'; .*'train' or 'val'"),
    (dict(certainty=95), 'certainty is 95; .*0.9545'),
    (dict(sequential=0), 'sequential is 0; .*GiB'),
    (dict(estimator='sgd'), 'estimator is not known'),
    (dict(epochs=12), 'epochs is not known'), (dict(lr=1), 'lr is not known'),
    (dict(precision='float64'), 'precision is not known'),
    (dict(stride4_share=1), 'stride4_share is not known'),
])
def test_each_mistake_is_named(given, words):
    settings, problems = read_cost_settings(given)
    assert len(problems) == 1
    with pytest.raises(ValueError, match=words):
        raise ValueError(problems[0])


def test_all_mistakes_are_told_together():
    _, problems = read_cost_settings(dict(images=0, split='x', sequential=0))
    assert len(problems) == 3
