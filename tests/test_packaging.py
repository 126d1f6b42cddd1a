"""A built package holds every file, has one version and asks for the tested
requirements; importing it registers the listed names."""
import json
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
    'mmdet hook: CalibrationHook',
    'mmdet hook: DistillCheckpointHook',
    'mmdet hook: FadeDistillHook',
    'mmdet hook: NonFiniteHook',
    'mmdet hook: RecordValidationsHook',
    'mmdet hook: StageCheckpointHook',
    'mmdet hook: StageProgressHook',
    'mmdet model: AttentionTransferLoss',
    'mmdet model: CWDLoss',
    'mmdet model: CosineLoss',
    'mmdet model: DistillDataPreprocessor',
    'mmdet model: FGDLoss',
    'mmdet model: FeatureDistiller',
    'mmdet model: FeatureL2Loss',
    'mmdet model: HiddenStateLoss',
    'mmdet model: LogitLoss',
    'mmdet model: MGDLoss',
    'mmdet model: PKDLoss',
    'mmdet model: TimmBackbone',
    'mmdet model: TorchvisionBackbone',
    'mmdet model: WeightedSum',
    'mmdet transform: TeacherView',
    'mmengine loop: StageEpochLoop',
    'mmengine loop: StageIterLoop',
    'mmengine optimizer wrapper constructor: DistillOptimWrapperConstructor',
]
# In a new process, since other tests import modules that mtpd itself does not,
# and without timm, which only building a TimmBackbone may need.
PRINT_REGISTERED = """
import json, sys
sys.modules['timm'] = None
import mtpd
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


def test_importing_mtpd_registers_the_listed_names_also_without_timm():
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
