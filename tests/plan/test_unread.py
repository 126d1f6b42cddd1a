"""Settings and options that nothing reads are not passed over in silence."""
import pytest

from mtpd.flags import parser
from mtpd.plan.start_check.unread import unread_notes, unread_options
from mtpd.progression import check


def test_a_misspelt_setting_is_noted(toy):
    cfg = toy(order=['wide'])
    cfg.param_schedular = []
    cfg.load_form = 'a.pth'
    # names by which configs write what they use several times
    cfg.merge_from_dict(dict(test_pipeline=[], train_dataset={}, max_epochs=2))
    checked = check(cfg)
    assert checked.problems == []
    assert checked.notes == [
        f'{name} is set, which neither mmengine nor mtpd reads, so it has no '
        f'effect; did you mean {meant}?' for name, meant in (
            ('param_schedular', 'param_scheduler'),
            ('load_form', 'load_from'))]


@pytest.mark.parametrize('option, hint', [
    ('max_epochs', ' Did you mean train_cfg.max_epochs?'),
    ('optim_wraper.optimizer.lr',
     ' Did you mean optim_wrapper.optimizer.lr?'),
    ('my_flag', '')])
def test_an_option_without_effect_is_said(toy, option, hint):
    cfg = toy()
    found, = unread_options(cfg, ['mtpd.order', option, 'load_from'])
    assert found.startswith(f'--cfg-options {option}: neither mmengine nor ')
    assert found.endswith(
        f'unless a part of your own reads it.{hint}')
    assert unread_notes(toy()) == []


def options(*given: str) -> dict:
    args = parser('A tool.').parse_args(['c.py', '--cfg-options', *given])
    return args.cfg_options


@pytest.mark.parametrize('text, value', [
    ('my weights/a b.pth', 'my weights/a b.pth'),
    ('my (old) weights/a.pth', 'my (old) weights/a.pth'),
    ("'a b'", 'a b'), (' 5', 5), ('1e-3', .001), ('None', None),
    ('true', True), ('', ''), ('swin,wide', ['swin', 'wide']),
    ('[1, 2]', [1, 2]), ('(1, (2 , 3), "x y")', (1, (2, 3), 'x y')),
    ('a b , c d', ['a b', 'c d'])])
def test_an_options_value_keeps_its_spaces(text, value):
    found = options('load_from=x', f'mtpd.a={text}')
    assert found == {'load_from': 'x', 'mtpd.a': value}


@pytest.mark.parametrize('given, words', [
    ('config.py', "'config.py' is no KEY=VALUE. Name the config before "),
    ('=3', "'=3' is no KEY=VALUE"), ('a..b=3', "'a..b=3' is no KEY=VALUE"),
    ('a=[1,2', 'a=[1,2: Imbalanced brackets')])
def test_what_is_no_option_is_said_without_a_traceback(capsys, given, words):
    with pytest.raises(SystemExit) as stop:
        options(given)
    assert stop.value.code == 2
    assert f'error: argument --cfg-options: {words}' in capsys.readouterr().err


def test_two_groups_of_options_are_joined():
    flags = parser('A tool.')
    args = flags.parse_args(['c.py', '--cfg-options', 'a=1', '--cfg-options',
                             'b=2'])
    assert args.cfg_options == dict(a=1, b=2)
