"""A built package holds every file, has one version and asks for the tested
requirements; importing it registers the listed names."""
import json
import os
import re
import shutil
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
    """A folder with ``lib``, the content of a wheel, and its metadata."""
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


@pytest.fixture(scope='module')
def editable(tmp_path_factory):
    """What an editable install puts beside the installed packages."""
    out = tmp_path_factory.mktemp('editable')
    subprocess.run([sys.executable, '-W', 'ignore', 'setup.py', '-q',
                    'editable_wheel', '--dist-dir', out / 'dist'], cwd=ROOT,
                   check=True, capture_output=True)
    wheel, = (out / 'dist').glob('*.whl')
    shutil.unpack_archive(wheel, out / 'site', 'zip')
    return out / 'site'


def test_both_kinds_of_install_have_the_finder_of_operators(built, editable):
    for folder in (built / 'lib', editable):
        assert (folder / 'mtpd_operators.py').read_bytes() == \
            (ROOT / 'startup' / 'mtpd_operators.py').read_bytes()
        assert (folder / 'mtpd_operators.pth').read_text() == \
            'import mtpd_operators; mtpd_operators.install()\n'


# Without site, so that the packages are there and other .pth files are not.
STARTED_IN_A_PARENT_FOLDER = """
import site, sys, sysconfig
sys.path.append(sysconfig.get_path('purelib'))
site.addsitedir(sys.argv[1])
import importlib.util
print(importlib.util.find_spec('mtpd').origin)
print([type(finder).__name__ for finder in sys.meta_path].count(
    'OperatorsFinder'), 'torch' in sys.modules)
"""


def test_mtpd_is_found_beside_a_folder_of_its_name(editable, tmp_path):
    """As in the folder that a clone lies in."""
    (tmp_path / 'mtpd' / 'docs').mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, '-S', '-c', STARTED_IN_A_PARENT_FOLDER, editable],
        cwd=tmp_path, check=True, capture_output=True, text=True,
        env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'})
    assert done.stdout.split() == [
        str(ROOT / 'mtpd' / '__init__.py'), '1', 'False']


def test_no_config_has_the_name_of_the_package():
    assert not list((ROOT / 'configs').rglob('mtpd.py'))


def test_version_and_licence_agree_everywhere(built):
    fields = metadata(built)
    assert fields['Version'] == mtpd.__version__
    assert fields['License'] == 'Apache-2.0'
    changes = (ROOT / 'CHANGELOG.md').read_text()
    assert re.findall(r'^## \[(.+?)\]', changes, re.M)[0] == mtpd.__version__
    assert 'Apache License' in (ROOT / 'LICENSE').read_text()


def test_the_tested_set_fulfils_the_requirements(built):
    pins = dict(re.findall(r'^([\w-]+)==(\S+)', '\n'.join(
        (ROOT / f'constraints{kind}.txt').read_text()
        for kind in ('', '-dev')), re.M))
    required = [Requirement(line)
                for line in metadata(built).get_all('Requires-Dist')]
    assert {r.name for r in required} <= pins.keys()
    assert [str(r) for r in required if not r.specifier.contains(
        pins[r.name])] == []


# Registry and name of everything that a config can name after
# custom_imports=dict(imports=['mtpd']).
REGISTERED = [
    'file backend: atomic',
    'mmdet dataset: UnlabelledImages',
    'mmdet hook: CalibrationHook',
    'mmdet hook: DistillCheckpointHook',
    'mmdet hook: FadeDistillHook',
    'mmdet hook: NonFiniteHook',
    'mmdet hook: RecordValidationsHook',
    'mmdet hook: StageCheckpointHook',
    'mmdet hook: StageProgressHook',
    'mmdet model: AttentionTransferLoss',
    'mmdet model: BinaryWeightConv2d',
    'mmdet model: CWDLoss',
    'mmdet model: CosineLoss',
    'mmdet model: DistillDataPreprocessor',
    'mmdet model: FGDLoss',
    'mmdet model: FeatureDistiller',
    'mmdet model: FeatureL2Loss',
    'mmdet model: HiddenStateLoss',
    'mmdet model: LogitLoss',
    'mmdet model: LowRankConv2d',
    'mmdet model: MGDLoss',
    'mmdet model: PKDLoss',
    'mmdet model: TimmBackbone',
    'mmdet model: TorchvisionBackbone',
    'mmdet model: WeightedSum',
    'mmdet model: XNORConv2d',
    'mmdet transform: TeacherView',
    'mmengine loop: StageEpochLoop',
    'mmengine loop: StageIterLoop',
    'mmengine optimizer wrapper constructor: DistillOptimWrapperConstructor',
]
# In a new process, since other tests import modules that mtpd itself does not,
# and without the packages of extras, which only a part of mtpd may need.
PRINT_REGISTERED = """
import json, sys
for extra in ('timm', 'onnx', 'onnxruntime'):
    sys.modules[extra] = None
import mtpd, mtpd.deploy, mtpd.predict
import mmdet.registry, mmengine.registry
from mmengine.fileio.backends.registry_utils import backends

def is_ours(registered):
    return registered.__module__.split('.')[0] == 'mtpd'

names = {f'file backend: {name}' for name, backend in backends.items()
         if is_ours(backend)}
for package in (mmdet.registry, mmengine.registry):
    for registry in vars(package).values():
        if isinstance(registry, mmengine.registry.Registry):
            names |= {f'{registry.scope} {registry.name}: {name}'
                      for name, registered in registry.module_dict.items()
                      if is_ours(registered)}
print(json.dumps(sorted(names)))
"""


def test_importing_mtpd_registers_the_listed_names_also_without_extras():
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', PRINT_REGISTERED], cwd=ROOT,
        check=True, capture_output=True, text=True)
    names = json.loads(done.stdout.splitlines()[-1])
    missing = sorted(set(REGISTERED) - set(names))
    added = sorted(set(names) - set(REGISTERED))
    assert not missing, \
        f'import mtpd no longer registers {missing}. These names stand in ' \
        'the configs that stages dump: a run that started with them could ' \
        'not be resumed. Keep the name, or register the class under both.'
    assert not added, \
        f'import mtpd now registers {added}. Configs that stages dump may ' \
        'hold these names, so they must not change later: choose them with ' \
        'care, and add them to REGISTERED.'
