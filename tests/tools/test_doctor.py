"""Broken environments, made of modules that shadow the real ones."""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'doctor.py'
_spec = importlib.util.spec_from_file_location('doctor', TOOL)
doctor = importlib.util.module_from_spec(_spec)
sys.modules['doctor'] = doctor  # dataclass looks up its module
_spec.loader.exec_module(doctor)

PINNED = doctor.tested()
PAIR = f'torch=={PINNED["torch"]} torchvision=={PINNED["torchvision"]}'
HEADLESS = f'opencv-python-headless=={PINNED["opencv-python-headless"]}'
LITE = 'uninstall -y mmcv mmcv-full mmcv-lite && '

# Every finder of modules is wrapped, so `find_spec` returns None.
HIDE = '''
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.split('.')[0] in {hidden!r} else \\
            self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
'''
TORCH = {
    'torch': '''
__version__ = '2.11.0'
class Tensor: pass
class version: cuda, hip = None, None
class cuda:
    is_available = staticmethod(lambda: False)
def from_numpy(array): pass
tensor = ones = lambda *args, **kwargs: Tensor()
''',
    'torch/nn': '', 'torch/nn/functional': '',
    'torchvision': '''
__version__ = '0.26.0'
class ops:
    nms = staticmethod(lambda *args: [0])
'''}
MMENGINE = {
    'mmengine': "__version__ = '0.10.7'",
    'mmengine/utils': 'digit_version = lambda v: tuple(map(int, '
                      "v.split('.')))"}
MMCV = {'mmcv': "__version__ = '2.1.0'",
        'mmcv/ops': 'from mmcv import _ext\nnms = lambda *args: (0, [0])'}
MMDET = {'mmdet': "__version__ = '3.3.0'",
         'mmdet/version.py': "__version__ = '3.3.0'", 'mmdet/apis': ''}


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """make(modules, dists, hidden): modules (``'mmcv/ops'`` -> code) and
    distributions (name -> (version, module)) that shadow the real ones, and
    names of modules that are hidden."""
    def make(modules: dict[str, str] = {}, dists: dict = {},
             hidden: tuple[str, ...] = ()) -> Path:
        folder = tmp_path / 'site'
        folder.mkdir()
        for name, code in modules.items():
            file = folder / name if name.endswith('.py') else \
                folder / name / '__init__.py'
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code)
        for name, (version, module) in dists.items():
            info = folder / f'{name.replace("-", "_")}-{version}.dist-info'
            info.mkdir()
            (info / 'METADATA').write_text(
                f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
            (info / 'top_level.txt').write_text(module)
        (folder / 'sitecustomize.py').write_text(
            HIDE.replace('{hidden!r}', repr(hidden)))
        monkeypatch.setenv('PYTHONPATH', str(folder))
        # Where this environment's python is not the first, its cures name it.
        monkeypatch.setenv('PATH', os.defpath)
        return folder
    return make


def missing(name: str) -> str:
    return f'raise ModuleNotFoundError("No module named {name!r}")'


@pytest.mark.parametrize('check, state, found, cure, modules, hidden', [
    ('packages', 'wrong', 'cv2 not installed', HEADLESS, {}, ('cv2',)),
    ('numpy', 'wrong', 'not installed', f'numpy=={PINNED["numpy"]}', {},
     ('numpy',)),
    ('numpy', 'wrong', '1.24.0, but >=1.26 is needed',
     f'install --no-deps numpy=={PINNED["numpy"]}',
     {'numpy': "__version__ = '1.24.0'"}, ()),
    ('torch', 'wrong', 'not installed', f'--force-reinstall {PAIR}', {},
     ('torch',)),
    ('torch', 'wrong', '2.4.0, but >=2.6 is needed', PAIR,
     {'torch': TORCH['torch'].replace('2.11.0', '2.4.0')}, ()),
    ('torch', 'wrong', 'another NumPy', PAIR, {'torch': TORCH['torch'].replace(
        'pass\n', 'pass\ndef from_numpy(a): raise RuntimeError("Numpy is not '
        'available")\n', 1).replace('def from_numpy(array): pass', '')}, ()),
    ('torchvision', 'wrong', 'does not fit the installed torch', PAIR,
     {**TORCH, 'torchvision': 'raise RuntimeError("operator torchvision::nms '
      'does not exist")'}, ()),
    ('torchvision', 'wrong', 'ended by signal', PAIR,
     {**TORCH, 'torchvision': 'import os; os.abort()'}, ()),
    ('opencv', 'wrong', 'libGL.so.1, which this system lacks',
     f'uninstall -y opencv-python && {sys.executable}',
     {'cv2': 'raise ImportError("libGL.so.1: cannot open shared object file: '
      'No such file or directory")'}, ()),
    ('opencv', 'wrong', 'not installed', HEADLESS, {}, ('cv2',)),
    ('pycocotools', 'wrong', 'built for another NumPy',
     f'--force-reinstall --no-deps pycocotools=={PINNED["pycocotools"]}',
     {'pycocotools': 'raise ValueError("numpy.dtype size changed, may '
      'indicate binary incompatibility")'}, ()),
    ('others', 'wrong', 'not installed', f'rich=={PINNED["rich"]}', {},
     ('rich',)),
    ('mmengine', 'wrong', 'needs addict, which is not installed',
     f'addict=={PINNED["addict"]}', {'mmengine': missing('addict')}, ()),
    ('mmengine', 'wrong', '0.11.0, but >=0.10.7,<0.11 is needed',
     f'mmengine=={PINNED["mmengine"]}',
     {'mmengine': "__version__ = '0.11.0'"}, ()),
    ('setuptools', 'wrong', 'mmengine needs pkg_resources',
     'install "setuptools<82"', MMENGINE, ('pkg_resources',)),
    ('transformers', 'wrong', 'Adafactor is already registered',
     'uninstall -y transformers',
     {**MMENGINE, 'transformers': '', 'mmengine/optim':
      'raise KeyError("Adafactor is already registered in optimizer")'}, ()),
    ('mmcv', 'wrong', 'not installed',
     f'install --no-deps mmcv-lite=={PINNED["mmcv-lite"]}', {}, ('mmcv',)),
    ('mmcv', 'wrong', 'mmdet 3.3.0 refuses mmcv 2.2.0', LITE,
     {**TORCH, **MMENGINE, **MMDET, 'mmcv': "__version__ = '2.2.0'"}, ()),
    ('mmcv', 'wrong', 'compiled: ImportError: _ext.so: undefined symbol',
     LITE, {**TORCH, **MMENGINE, **MMCV, **MMDET, 'mmcv/_ext':
            'raise ImportError("_ext.so: undefined symbol: _ZN2at")'}, ()),
    ('mmdet', 'wrong', 'mmdet needs terminaltables',
     f'terminaltables=={PINNED["terminaltables"]}',
     {**TORCH, **MMCV, 'mmdet': missing('terminaltables')}, ()),
    ('timm', 'note', 'only TimmBackbone needs it', f'timm=={PINNED["timm"]}',
     {}, ('timm',)),
    ('mtpd', 'wrong', 'not installed',
     'install --no-deps --no-build-isolation -e ', {}, ('mtpd',)),
    ('mtpd', 'wrong', 'mmdet is not installed', 'pip install mmdet==3.3.0',
     {'mtpd': 'class EnvironmentProblem(ImportError): pass\nraise '
      'EnvironmentProblem("mmdet is not installed: pip install '
      'mmdet==3.3.0")'}, ()),
    ('mtpd', 'wrong', 'no such thing', '--no-build-isolation -e ',
     {'mtpd': 'raise OSError("no such thing")'}, ()),
])
def test_a_problem_is_named_with_its_cure(environment, check, state,
                                              found, cure, modules, hidden):
    environment(modules, hidden=hidden)
    finding = getattr(doctor, f'check_{check}')()
    assert (finding.state, found in finding.found) == (state, True), finding
    assert finding.cure is not None and cure in finding.cure
    assert finding.cure.startswith(f'{sys.executable} -m pip ')


def test_several_packages_have_one_cure(environment):
    environment(hidden=('numpy', 'torch', 'mmdet'))
    finding = doctor.check_packages()
    assert finding.found == 'numpy, torch, mmdet not installed'
    command, path = finding.cure.split(' -r ')
    assert command == f'{sys.executable} -m pip install --no-deps'
    assert Path(path).resolve() == \
        TOOL.parents[1] / 'constraints.txt'
    named = {doctor.DISTRIBUTIONS.get(m, m) for m in doctor.MODULES}
    assert named - {'mmcv-lite', 'opencv-python-headless'} == set(
        doctor.requirements()) - {'python', 'setuptools', 'timm'}


def test_a_working_environment_has_no_problem(environment):
    environment({**TORCH, **MMENGINE, **MMCV, **MMDET, 'mmengine/optim': '',
                 'transformers': ''},
                dists={'mmcv-lite': ('2.1.0', 'mmcv')})
    for check in ('torch', 'torchvision', 'mmengine', 'setuptools',
                  'transformers', 'mmcv', 'mmdet'):
        finding = getattr(doctor, f'check_{check}')()
        assert (finding.state, finding.cure) == ('ok', None), finding


def test_forks_are_found_by_their_import_names(environment):
    environment({**TORCH, **MMCV, **MMENGINE,
                 'mmdet': "__version__ = '3.5.1'", 'mmdet/apis': ''},
                dists={'onedl-mmdetection': ('3.5.1', 'mmdet'),
                       'onedl-mmengine': ('0.10.7', 'mmengine')},
                hidden=())
    # The real distributions are behind these and would be named as well.
    assert doctor.check_mmengine().found.startswith('0.10.7 of onedl-mmeng')
    finding = doctor.check_mmdet()
    assert finding.state == 'note'
    assert finding.found == \
        '3.5.1 of onedl-mmdetection: a fork, not tested by us'


def test_two_mmcvs_in_one_folder(environment):
    environment({**TORCH, **MMENGINE, **MMCV, **MMDET},
                dists={'mmcv': ('2.1.0', 'mmcv'),
                       'mmcv-lite': ('2.1.0', 'mmcv')})
    finding = doctor.check_mmcv()
    assert finding.state == 'wrong'
    assert 'mmcv and mmcv-lite are installed in one folder' in finding.found
    assert LITE in finding.cure


def test_the_installed_mmcv_works():
    finding = doctor.check_mmcv()
    assert finding.state == 'ok' and '2.' in finding.found


def test_what_works_is_imported_in_one_process(environment, monkeypatch):
    """Up to the first failure; its check and the later ones run alone."""
    environment({**TORCH, **MMENGINE, **MMDET, 'mmengine/optim': '',
                 'cv2': "__version__ = '4'", 'scipy': '', 'scipy/linalg': '',
                 'matplotlib': '', 'matplotlib/pyplot': '',
                 'mmcv': MMCV['mmcv'], 'mmcv/ops':
                 'import os; os.abort()'})
    found = doctor.run_together()
    assert list(found) == ['packages', 'numpy', 'torch', 'torchvision',
                           'opencv', 'pycocotools', 'scipy', 'matplotlib',
                           'rich', 'mmengine', 'setuptools', 'transformers']
    assert found['torch'].values == {'version': '2.11.0'}
    assert found['scipy'].values['version'] == PINNED['scipy']

    processes = []
    monkeypatch.setattr(doctor, 'TOGETHER', {})
    monkeypatch.setattr(doctor, 'CHECKS', {
        name: doctor.CHECKS[name] for name in (
            'NumPy', 'PyTorch', 'torchvision', 'mmengine', 'OpenCV', 'mmcv')})
    run = doctor.run
    monkeypatch.setattr(doctor, 'run', lambda code: processes.append(code)
                        or run(code))
    *_, mmcv = doctor.examine('work_dirs')
    assert mmcv.state == 'wrong' and 'ended by signal 6' in mmcv.found
    assert processes == [doctor.ALL_CODES, doctor.CODES['mmcv']]


GPU = '''
class version: cuda, hip = {cuda!r}, None
class cuda:
    is_available = staticmethod(lambda: {seen})
    device_count = staticmethod(lambda: 1)
    get_device_name = staticmethod(lambda i: 'A card')
def ones(*args, **kwargs):
    raise RuntimeError('no kernel image is available for execution')
'''


@pytest.mark.parametrize('cuda, seen, driver, state, found, cure', [
    (None, False, None, 'note', 'everything runs on the CPU', None),
    ('13.0', False, None, 'note', 'everything runs on the CPU', None),
    (None, False, (13, 0), 'wrong', 'built without CUDA', PAIR),
    (None, False, (12, 4), 'wrong', 'built without CUDA', '/whl/cu126'),
    ('13.0', False, (12, 4), 'wrong', 'the driver supports CUDA 12.4, but '
     'PyTorch is built for 13.0', f'{PAIR} --index-url https://download.'
     'pytorch.org/whl/cu126'),
    ('12.6', False, (11, 8), 'wrong', 'CUDA 11.8',
     'torch==2.6.0 torchvision==0.21.0 --index-url https://download.pytorch.'
     'org/whl/cu118'),
    ('12.6', False, (12, 2), 'wrong', 'sees no device', ''),
    ('13.0', True, (13, 0), 'wrong', 'A card is visible, but a step on it '
     'fails: RuntimeError: no kernel image', '/whl/cu126')])
def test_a_gpu_and_its_driver(environment, monkeypatch, cuda, seen, driver,
                              state, found, cure):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    environment({'torch': GPU.format(cuda=cuda, seen=seen)})
    monkeypatch.setattr(doctor, 'driver_cuda', lambda: driver)
    finding = doctor.check_gpu()
    assert (finding.state, found in finding.found) == (state, True), finding
    assert finding.cure is None if cure is None else cure in finding.cure


def test_a_gpu_hidden_by_the_environment(environment, monkeypatch):
    environment({'torch': GPU.format(cuda='13.0', seen=False)})
    monkeypatch.setattr(doctor, 'driver_cuda', lambda: (13, 0))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    finding = doctor.check_gpu()
    assert (finding.state, finding.cure) == (
        'note', 'unset CUDA_VISIBLE_DEVICES')


Usage = namedtuple('Usage', 'total used free')


def disk(monkeypatch, size: int) -> None:
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(size, 0, size))


def test_work_dir(monkeypatch, tmp_path):
    (tmp_path / 'file').write_text('')
    finding = doctor.check_work_dir(str(tmp_path / 'file' / 'work'))
    assert finding.state == 'wrong' and 'Not a directory' in finding.found
    assert '--work-dir ANOTHER_FOLDER' in finding.cure
    asked = tmp_path / 'not' / 'there'
    assert doctor.check_work_dir(str(asked)).state == 'ok'
    assert not asked.parent.exists() and len(list(tmp_path.iterdir())) == 1
    disk(monkeypatch, 2 ** 30)
    finding = doctor.check_work_dir(str(asked))
    assert finding.state == 'wrong' and '1 GiB free' in finding.found


def test_shared_memory_of_a_container(monkeypatch, tmp_path):
    disk(monkeypatch, 64 * 2 ** 20)  # docker's
    finding = doctor.check_shared_memory(str(tmp_path))
    assert finding.state == 'wrong' and finding.found.startswith('64 MiB')
    assert 'size=8' in finding.cure or 'shm-size=8g' in finding.cure
    disk(monkeypatch, 2 ** 30)
    assert doctor.check_shared_memory(str(tmp_path)).state == 'ok'
    assert doctor.check_shared_memory(str(tmp_path / 'no')).state == 'ok'


def test_threads(monkeypatch):
    monkeypatch.setattr(doctor, 'cpus', lambda: 4)
    monkeypatch.setattr(os, 'cpu_count', lambda: 64)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    finding = doctor.check_processors()
    assert finding.found == '4 for this process of 64; PyTorch may start 64 ' \
        'threads'
    assert (finding.state, finding.cure) == (
        'note', 'export OMP_NUM_THREADS=4')
    for given, state in (('1', 'ok'), ('8', 'note'), ('many', 'note')):
        monkeypatch.setenv('OMP_NUM_THREADS', given)
        assert doctor.check_processors().state == state


def test_git_and_python(monkeypatch):
    monkeypatch.setattr(sys, 'version_info', (3, 9, 18))
    finding = doctor.check_python()
    assert (finding.state, finding.cure) == (
        'wrong', 'make install PYTHON=python3.11')
    monkeypatch.setattr(sys, 'version_info', (3, 13, 1))
    assert doctor.check_python().state == 'note'
    assert doctor.check_git().state in ('ok', 'note')
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    assert doctor.check_git().cure == 'sudo apt-get install -y git'


@pytest.mark.parametrize('version, wanted, is_in', [
    ('2.11.0+cu130', '>=2.6', True), ('2.6', '>=2.6.0', True),
    ('2.5.1', '>=2.6', False), ('0.10.12', '>=0.10.7,<0.11', True),
    ('0.11.0', '>=0.10.7,<0.11', False), ('82.0.1', '<82', False),
    ('3.4.0rc1', '>=3.3.0,<3.4', False), ('1', '', True)])
def test_ranges(version, wanted, is_in):
    assert doctor.fits(version, wanted) is is_in


def test_ranges_are_those_of_setup():
    ranges = doctor.requirements()
    assert ranges['mmengine'] == '>=0.10.7,<0.11'
    assert set(ranges) >= {'python', 'torch', 'mmdet', 'setuptools', 'timm'}
    assert all(doctor.fits(PINNED[n], r) for n, r in ranges.items())


def test_an_empty_environment_is_checked_to_the_end(environment, tmp_path):
    names = ('numpy', 'torch', 'torchvision', 'cv2', 'mmengine', 'mmcv',
             'mmdet', 'mtpd', 'timm', 'pycocotools', 'scipy', 'matplotlib',
             'rich')
    environment(hidden=names)

    def run(*flags):
        return subprocess.run([sys.executable, TOOL, *flags], text=True,
                              capture_output=True, cwd=tmp_path)

    done = run('--json')
    printed = json.loads(done.stdout)
    assert done.returncode == 1 and printed['ok'] is False
    assert [f['what'] for f in printed['findings']] == list(doctor.CHECKS)
    state = {f['what']: f['state'] for f in printed['findings']}
    assert state['NumPy'] == 'wrong' and state['mtpd'] == 'skipped'
    done = run()
    assert 'wrong   NumPy         not installed\n        cure:  ' \
        in done.stdout
    assert "'make install'" in done.stdout and done.stderr == ''


def test_a_check_that_raises_is_a_finding(monkeypatch):
    def fails():
        raise OSError('no such thing')

    monkeypatch.setattr(doctor, 'run_together', dict)
    monkeypatch.setattr(doctor, 'CHECKS', {'git': (fails, ())})
    assert [f.found for f in doctor.examine('x')] == [
        'the check failed: OSError: no such thing']


@pytest.mark.slow
def test_nothing_is_wrong_here(repository):
    done = subprocess.run([sys.executable, TOOL], capture_output=True,
                          text=True, cwd=repository)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith('Nothing is wrong.\n')
