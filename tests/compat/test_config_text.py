"""Configs with numbers that are not finite are read as they were written."""
import math

from mmengine.config import Config

from mtpd.compat.config_text import pretty_text


def test_what_is_written_is_read(tmp_path):
    values = dict(
        clip_grad=dict(max_norm=float('inf')), lowest=-math.inf,
        several=[1., (float('inf'), dict(a=float('nan')))], name='inf',
        whole=3, nothing=None, said='nan is no number', half=.5)
    path = tmp_path / 'a.py'
    path.write_text(pretty_text(values))
    read = Config.fromfile(str(path))
    assert math.isnan(read.several[1][1].pop('a'))
    values['several'][1][1].pop('a')
    assert read.to_dict() == values


def test_finite_values_are_written_as_mmengine_does():
    cfg = Config(dict(a=1, b=dict(c=[1.5, 'x'], d=(2, 3)), e=None))
    assert pretty_text(cfg._cfg_dict) == cfg.pretty_text
