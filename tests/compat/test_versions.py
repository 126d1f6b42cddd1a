import importlib.util

import mmcv
import mmdet
import pytest

from mtpd.compat.versions import (EnvironmentProblem, check_versions,
                                  mmdet_version)


def without(monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *args:
                        None if name == package else find(name, *args))


def test_the_tested_set_has_no_problem():
    check_versions()
    assert mmdet_version() == mmdet.__version__


@pytest.mark.parametrize('package, cure', [
    ('mmcv', 'pip install mmcv-lite'), ('mmdet', 'pip install mmdet'),
    ('pkg_resources', r'setuptools<82')])
def test_a_missing_package_is_named_with_its_cure(monkeypatch, package, cure):
    without(monkeypatch, package)
    with pytest.raises(EnvironmentProblem, match=cure):
        check_versions()


def test_an_mmcv_that_mmdet_refuses(monkeypatch):
    monkeypatch.setattr(mmcv, '__version__', '2.2.0')
    with pytest.raises(EnvironmentProblem, match='refuses mmcv 2.2.0: pip'):
        check_versions()
