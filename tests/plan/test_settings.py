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
    (dict(precision='bf16'), "'float32' or 'float64'"),
    (dict(stride4_share=0), 'above 0 and at most 1'),
    (dict(certainty=95), 'certainty is 95; .*0.9545'),
    (dict(sequential=0), 'sequential is 0; .*GiB'),
    (dict(estimator='adam'), "'exact' or 'sgd'"),
    (dict(epochs=1.5), 'epochs is 1.5'), (dict(lr=-1), 'lr is -1'),
    (dict(estimator='sgd', images='auto'), 'cannot look in between'),
    (dict(estimator='sgd', split='val'), 'scores on the validation'),
    (dict(estimator='sgd', sequential=1), "for mtpd.costs.estimator 'exact'"),
])
def test_each_mistake_is_named(given, words):
    settings, problems = read_cost_settings(given)
    assert len(problems) == 1
    with pytest.raises(ValueError, match=words):
        raise ValueError(problems[0])


def test_all_mistakes_are_told_together():
    _, problems = read_cost_settings(dict(images=0, split='x', lr=0))
    assert len(problems) == 3
