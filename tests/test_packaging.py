"""What is built from the tree: all of it, under one version, on what is
tested."""
import re
import subprocess
import sys
from email import message_from_string
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mtpd

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """A folder with ``lib``, what a wheel would hold, and its metadata."""
    out = tmp_path_factory.mktemp('built')
    subprocess.run(
        [sys.executable, 'setup.py', '-q', 'egg_info', '--egg-base', out,
         'build_py', '--build-lib', out / 'lib'],
        cwd=ROOT, check=True, capture_output=True)
    return out


def metadata(built):
    return message_from_string(
        (built / 'mtpd.egg-info' / 'PKG-INFO').read_text())


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob('*')
            if path.is_file() and '__pycache__' not in path.parts}


def test_a_wheel_holds_every_file_of_the_package(built):
    assert files(built / 'lib' / 'mtpd') == files(ROOT / 'mtpd')


def test_version_and_licence_are_said_once(built):
    said = metadata(built)
    assert said['Version'] == mtpd.__version__
    assert said['License'] == 'Apache-2.0'
    changes = (ROOT / 'CHANGELOG.md').read_text()
    assert re.findall(r'^## \[(.+?)\]', changes, re.M)[0] == mtpd.__version__
    assert 'Apache License' in (ROOT / 'LICENSE').read_text()


def test_the_tested_set_is_what_the_package_asks_for(built):
    pins = dict(re.findall(r'^([\w-]+)==(\S+)', '\n'.join(
        (ROOT / f'constraints{kind}.txt').read_text()
        for kind in ('', '-dev')), re.M))
    asked = [Requirement(line)
             for line in metadata(built).get_all('Requires-Dist')]
    assert {r.name for r in asked} <= pins.keys()
    assert [str(r) for r in asked if not r.specifier.contains(
        pins[r.name])] == []
