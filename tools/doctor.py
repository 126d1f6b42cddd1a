"""Checks this environment, and names the command that cures each problem.

    python tools/doctor.py [--work-dir work_dirs] [--json]

Needs only Python. All packages are imported in one other process; from the
first that is missing or ends the process, each in a process of its own, so
that every problem becomes a line of the table. The exit code is 1 if something
is wrong. A note is not a fault: something is missing that only some users
need, or was never tested.
"""
from __future__ import annotations

import argparse
import ast
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parent.parent
VERSIONS = REPOSITORY / 'mtpd' / 'compat' / 'versions.py'
OPERATORS = REPOSITORY / 'mtpd' / 'compat' / 'operators.py'

# A stage of a RetinaNet-R50 keeps three checkpoints of 0.3 GB and the student.
FREE_DISK = 2 * 2 ** 30
# 4 workers, each with two batches of 16 images of 800x1333, as bytes.
SHARED_MEMORY = 4 * 2 * 16 * 800 * 1333 * 3
SECONDS = 180  # for one import; the first from a network disk takes long

# Module -> distribution, for modules whose distribution has another name.
DISTRIBUTIONS = {
    'cv2': 'opencv-python-headless', 'PIL': 'pillow', 'yaml': 'PyYAML',
    'mmcv': 'mmcv-lite', 'pkg_resources': 'setuptools'}

# Import names of setup.py's requirements, and OpenCV, which mmengine requires.
MODULES = ('numpy', 'torch', 'torchvision', 'cv2', 'pycocotools', 'scipy',
           'matplotlib', 'rich', 'mmengine', 'mmcv', 'mmdet')

# Requirements without known conflicts, and what is imported of them.
OTHERS = {'scipy': 'scipy.linalg', 'matplotlib': 'matplotlib.pyplot',
          'rich': 'rich.table'}

# Messages of packages that were built for another NumPy.
OTHER_NUMPY = re.compile('numpy.dtype size changed|compiled using NumPy 1|'
                         'numpy.core.multiarray failed|_ARRAY_API not found|'
                         'Numpy is not available')


@dataclass
class Finding:
    """One line of the table.

    Attributes:
        what: Name of the check.
        found: What is installed, or the problem.
        state: 'ok', 'wrong', 'note', or 'skipped' if another problem has to
            be cured first.
        cure: The command; None if none is needed.
    """
    what: str
    found: str
    state: str = 'ok'
    cure: str | None = None


# ------------------------------------------------------ versions and commands


def requirements() -> dict[str, str]:
    """Distribution -> version range, from the text of ``setup.py``: the
    package itself may not be installed."""
    arguments: dict[str | None, ast.expr] = {}
    for node in ast.walk(ast.parse((REPOSITORY / 'setup.py').read_text())):
        if isinstance(node, ast.Call) \
                and getattr(node.func, 'id', '') == 'setup':
            arguments = {k.arg: k.value for k in node.keywords}
    ranges = {'python': ast.literal_eval(arguments['python_requires'])}
    extras = ast.literal_eval(arguments['extras_require'])
    for line in ast.literal_eval(arguments['install_requires']) \
            + extras['timm']:
        name, wanted = match_groups(r'([\w.-]+)(.*)', line)
        ranges[name] = wanted
    return ranges


def tested() -> dict[str, str]:
    """Distribution -> version in the tested set, and ``python``."""
    text = (REPOSITORY / 'constraints.txt').read_text()
    versions = dict(re.findall(r'^([\w.-]+)==([^\s;]+)', text, re.MULTILINE))
    versions['python'], = match_groups(r'Python (\d+\.\d+)', text)
    return versions


def match_groups(pattern: str, text: str) -> tuple[str, ...]:
    """The groups of the first match.

    Raises:
        ValueError: The text has no match.
    """
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f'Expected {pattern} in {text[:80]!r}.')
    return match.groups()


def release(version: str) -> tuple[int, ...]:
    """``2.11.0+cpu`` -> (2, 11, 0)."""
    digits = re.match(r'\d+(\.\d+)*', version)
    return tuple(map(int, digits[0].split('.'))) if digits else ()


def fits(version: str, wanted: str) -> bool:
    """Whether a version lies in a range such as ``>=0.10.7,<0.11``."""
    for bound in filter(None, wanted.split(',')):
        sign, limit = match_groups(r'^\s*([<>=!]+)\s*(\S+)', bound)
        a, b = release(version), release(limit)
        length = max(len(a), len(b))
        a += (0,) * (length - len(a))
        b += (0,) * (length - len(b))
        if not {'>=': a >= b, '<': a < b, '<=': a <= b, '>': a > b,
                '==': a == b, '!=': a != b}[sign]:
            return False
    return True


def pip(arguments: str) -> str:
    """A pip command for the Python that runs this file."""
    on_path = shutil.which('python')
    if on_path and \
            os.path.abspath(on_path) == os.path.abspath(sys.executable):
        return f'python -m pip {arguments}'
    return f'{sys.executable} -m pip {arguments}'


def install(*names: str, options: str = '') -> str:
    """The command that installs distributions at their tested versions,
    without their dependencies."""
    versions, ranges = tested(), requirements()
    words = []
    for name in names:
        if name in versions:
            words.append(f'{name}=={versions[name]}')
        elif name in ranges:
            words.append(f'"{name}{ranges[name]}"')
        else:
            words.append(name)
    return pip(f'install {options}--no-deps ' + ' '.join(words))


def install_torch(index: str | None = None, older: bool = False) -> str:
    """The command that reinstalls a matching pair of torch and torchvision,
    with their dependencies.

    ``index`` is a folder of PyTorch's own wheels, such as ``cu126``, for
    another CUDA than the tested set has.
    """
    versions = tested()
    torch, torchvision = ('2.6.0', '0.21.0') if older else (
        versions['torch'], versions['torchvision'])
    if index:
        source = f'--index-url https://download.pytorch.org/whl/{index}'
    else:
        source = '-c ' + os.path.relpath(REPOSITORY / 'constraints.txt')
    return pip(f'install --force-reinstall torch=={torch} '
               f'torchvision=={torchvision} {source}')


# ----------------------------------------------------- packages in processes


@dataclass
class Probe:
    """The result of code that ran in another process.

    Attributes:
        values: The reported values, by name.
        error: The last line of stderr, or how the process ended; '' if it
            succeeded.
        text: All of stderr.
    """
    values: dict
    error: str
    text: str = ''


# Runs before the code of each probe. The current folder is removed from the
# path, since tools/train.py does not import from it either.
PRELUDE = '''
import functools, importlib.util, json, sys
sys.path.pop(0)
def report(**values):
    print('\\n@doctor ' + json.dumps(values), flush=True)
def load(path):
    spec = importlib.util.spec_from_file_location('loaded_alone', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
@functools.cache
def every_distribution():
    from importlib.metadata import distributions
    return list(distributions())
def check(function):
    versions = load({versions!r})
    try:
        getattr(versions, function)()
    except versions.EnvironmentProblem as problem:
        report(what=problem.what, cure=problem.cure)
        sys.exit()
def distributions(module):
    names = set()
    for one in every_distribution():
        tops = (one.read_text('top_level.txt') or '').split()
        if module in tops or not tops and any(
                f.parts[0] == module for f in one.files or ()):
            names.add(one.metadata['Name'])
    return sorted(names)
'''.replace('{versions!r}', repr(str(VERSIONS)))


# What each check imports and asks, in the order in which all of it works in
# one process.
CODES = {
    'packages': f"""report(missing=[name for name in {MODULES!r}
             if importlib.util.find_spec(name) is None])""",
    'numpy': 'import numpy; report(version=numpy.__version__)',
    'torch': """import torch; report(version=torch.__version__)
import numpy; torch.from_numpy(numpy.zeros(1))""",
    'torchvision': """check('check_torchvision')
import torch, torchvision
report(version=torchvision.__version__)
box = torch.tensor([[0., 0., 1., 1.]])
assert len(torchvision.ops.nms(box, torch.ones(1), .5)) == 1""",
    'opencv': """import cv2; report(version=cv2.__version__)
report(names=distributions('cv2'))""",
    'pycocotools': """import numpy
from pycocotools import mask
mask.encode(numpy.ones((2, 2), dtype="uint8", order="F"))
from importlib.metadata import version
report(version=version("pycocotools"))""",
    **{name: f"""import {module}
from importlib.metadata import version
report(version=version("{name}"))""" for name, module in OTHERS.items()},
    'mmengine': """import mmengine; report(version=mmengine.__version__)
report(names=distributions('mmengine'))""",
    'setuptools': "check('check_pkg_resources')",
    'transformers': """import importlib.util as u
report(installed=u.find_spec('transformers') is not None)
import mmengine.optim""",
    'mmcv': f"""import mmcv
report(version=mmcv.__version__, names=distributions('mmcv'))
found = importlib.util.find_spec('mmcv._ext')
report(compiled=found is not None and found.origin != 'torchvision')
if importlib.util.find_spec('mmdet'):
    check('check_mmcv')
load({str(OPERATORS)!r}).install_operators()
import torch
from mmcv.ops import nms
box = torch.tensor([[0., 0., 1., 1.]])
assert len(nms(box, torch.ones(1), .5)[1]) == 1""",
    'mmdet': f"""
load({str(OPERATORS)!r}).install_operators()
import mmdet
report(version=mmdet.__version__, names=distributions('mmdet'))
import mmdet.apis""",
    'mtpd': """import mtpd
report(version=mtpd.__version__, path=mtpd.__path__[0])""",
    'gpu': """import torch
report(cuda=torch.version.cuda, rocm=getattr(torch.version, 'hip', None))
report(seen=torch.cuda.is_available())
if torch.cuda.is_available():
    report(names=[torch.cuda.get_device_name(i)
                  for i in range(torch.cuda.device_count())])
    assert (torch.ones(2, device='cuda') + 1).sum().item() == 4
    import torchvision
    torchvision.ops.nms(torch.ones(1, 4, device='cuda'),
                        torch.ones(1, device='cuda'), .5)""",
    # The last, as many do without it.
    'timm': 'import timm; report(version=timm.__version__)'}
# Runs them one after the other, up to the first that fails.
ALL_CODES = f"""
for name, code in {CODES!r}.items():
    try:
        exec(code, dict(globals()))
    except BaseException:
        break
    print('\\n@done ' + name, flush=True)
"""


def run_together() -> dict[str, Probe]:
    """Name of a code -> its result in one process for all; from the first
    that fails, none: what it left behind could disturb the others."""
    try:
        done = run(ALL_CODES)
    except subprocess.TimeoutExpired:
        return {}
    found, began = {}, 0
    lines = done.stdout.splitlines()
    for end, line in enumerate(lines):
        if line.startswith('@done '):
            name = line.removeprefix('@done ')
            found[name] = Probe(reported(lines[began:end]), '')
            began = end
    return found


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', PRELUDE + code],
        capture_output=True, text=True, timeout=SECONDS, errors='replace')


def reported(lines: list[str]) -> dict:
    """What code handed to ``report``, from what its process printed."""
    values = {}
    for line in lines:
        if line.startswith('@doctor '):
            values.update(json.loads(line.removeprefix('@doctor ')))
    return values


TOGETHER: dict[str, Probe] = {}
"""The results of :func:`run_together`, once it has run."""


def probe(name: str) -> Probe:
    """The result of a code, run in a new process where it has none."""
    if name in TOGETHER:
        return TOGETHER[name]
    try:
        done = run(CODES[name])
    except subprocess.TimeoutExpired:
        return Probe({}, f'no answer within {SECONDS} seconds')
    values = reported(done.stdout.splitlines())
    if done.returncode == 0:
        return Probe(values, '', done.stderr)
    lines = done.stderr.strip().splitlines()
    if done.returncode < 0:
        error = f'the process was ended by signal {-done.returncode}'
    else:
        error = lines[-1] if lines else f'exit code {done.returncode}'
    return Probe(values, error, done.stderr)


def import_problem(what: str, package: str, done: Probe) -> Finding:
    """The finding on a package that cannot be imported or used."""
    missing = re.search(r"No module named '([\w.]+)'", done.error)
    if missing:
        module = missing[1].split('.')[0]
        name = DISTRIBUTIONS.get(module, module)
        return Finding(what, 'not installed' if name == package else
                       f'{package} needs {module}, which is not installed',
                       'wrong', install(name))
    if OTHER_NUMPY.search(done.text):
        problem = 'built for another NumPy: ' + done.error
    else:
        problem = done.error
    return Finding(what, problem, 'wrong',
                   install(package, options='--force-reinstall '))


def check_range(what: str, package: str, version: str, note: str = '',
                distributions: tuple[str, ...] = ()) -> Finding:
    """Whether the version of a package that works is in ``setup.py``'s range.

    ``distributions`` are those that the package was installed from: a name
    other than ``package`` is a fork.
    """
    wanted = requirements().get(package, '')
    fork = next((name for name in distributions if name != package), None)
    found = version + (f' of {fork}' if fork else '') + note
    if fits(version, wanted):
        return Finding(what, found)
    if fork:
        return Finding(what, f'{found}: a fork, not tested by us', 'note')
    return Finding(what, f'{found}, but {wanted} is needed', 'wrong',
                   install(package))


# ------------------------------------------------------------------ the checks


def check_python() -> Finding:
    version = '.'.join(map(str, sys.version_info[:3]))
    wanted, known = requirements()['python'], tested()['python']
    if not fits(version, wanted):
        return Finding('Python', f'{version}, but {wanted} is needed',
                       'wrong', f'make install PYTHON=python{known}')
    if version.startswith(f'{known}.'):
        return Finding('Python', version)
    return Finding('Python', f'{version}; tested with {known} only', 'note')


def check_packages() -> Finding:
    """Packages that are not installed, before any is imported."""
    done = probe('packages')
    if done.error:
        return Finding('Packages', done.error, 'note')
    missing = done.values['missing']
    if not missing:
        return Finding('Packages', f'all {len(MODULES)} are installed')
    if missing == ['torch']:
        cure = install_torch()
    elif len(missing) == 1:
        cure = install(DISTRIBUTIONS.get(missing[0], missing[0]))
    else:
        constraints = os.path.relpath(REPOSITORY / 'constraints.txt')
        cure = pip(f'install --no-deps -r {constraints}')
    return Finding('Packages', f'{", ".join(missing)} not installed', 'wrong',
                   cure)


def check_numpy() -> Finding:
    done = probe('numpy')
    if done.error:
        return import_problem('NumPy', 'numpy', done)
    return check_range('NumPy', 'numpy', done.values['version'])


def check_torch() -> Finding:
    done = probe('torch')
    if done.error:
        finding = import_problem('PyTorch', 'torch', done)
        if 'numpy' in finding.found:
            return finding
    else:
        finding = check_range('PyTorch', 'torch', done.values['version'])
    if finding.state == 'wrong':
        finding.cure = install_torch()
    return finding


def check_torchvision() -> Finding:
    done = probe('torchvision')
    problem = done.values.get('what') or done.error
    if problem:
        return Finding('torchvision', problem, 'wrong', install_torch())
    finding = check_range('torchvision', 'torchvision',
                          done.values['version'], ', its operators run')
    if finding.state == 'wrong':
        finding.cure = install_torch()
    return finding


def check_opencv() -> Finding:
    done = probe('opencv')
    library = re.search(r'(lib\w+\.so[.\d]*): cannot open', done.error)
    if library:
        uninstall = pip('uninstall -y opencv-python')
        headless = install('opencv-python-headless',
                           options='--force-reinstall ')
        return Finding('OpenCV', f'needs {library[1]}, which this system '
                       'lacks; the headless wheel does not', 'wrong',
                       f'{uninstall} && {headless}')
    if done.error:
        return import_problem('OpenCV', 'opencv-python-headless', done)
    wheels = ' and '.join(done.values['names']) or 'an unknown wheel'
    return Finding('OpenCV', f'{done.values["version"]} of {wheels}')


def check_pycocotools() -> Finding:
    done = probe('pycocotools')
    if done.error:
        return import_problem('pycocotools', 'pycocotools', done)
    return check_range('pycocotools', 'pycocotools', done.values['version'])


def check_others() -> Finding:
    """Requirements without known conflicts."""
    versions = []
    for name in OTHERS:
        done = probe(name)
        finding = import_problem(name, name, done) if done.error \
            else check_range(name, name, done.values['version'])
        if finding.state == 'wrong':
            return finding
        versions.append(f'{name} {finding.found}')
    return Finding('Others', ', '.join(versions))


def check_mmengine() -> Finding:
    done = probe('mmengine')
    if done.error:
        return import_problem('mmengine', 'mmengine', done)
    return check_range('mmengine', 'mmengine', done.values['version'],
                       distributions=tuple(done.values['names']))


def check_setuptools() -> Finding:
    done = probe('setuptools')
    if 'what' in done.values:
        return Finding('setuptools', done.values['what'], 'wrong',
                       pip(done.values['cure'].replace('pip ', '', 1)))
    if done.error:
        return import_problem('setuptools', 'setuptools', done)
    return Finding('setuptools', "mmengine reads 'mmdet::...'")


def check_transformers() -> Finding:
    done = probe('transformers')
    if not done.error:
        return Finding('transformers', 'installed, works with mmengine'
                       if done.values['installed'] else
                       'not installed, not needed')
    if done.values.get('installed') and re.search('transformers|Adafactor',
                                                  done.text):
        return Finding('transformers', "mmengine's optimizers cannot be "
                       f'imported beside it ({done.error})', 'wrong',
                       pip('uninstall -y transformers'))
    return import_problem('transformers', 'mmengine', done)


def check_mmcv() -> Finding:
    lite = f'mmcv-lite=={tested()["mmcv-lite"]}'
    cure = pip('uninstall -y mmcv mmcv-full mmcv-lite && ') + pip(
        f'install --no-deps {lite}')
    done = probe('mmcv')
    values = done.values
    if 'what' in values:
        return Finding('mmcv', values['what'], 'wrong', cure)
    if done.error and 'version' not in values:
        return import_problem('mmcv', 'mmcv-lite', done)
    names = values['names']
    if len(names) > 1:
        return Finding('mmcv', f'{" and ".join(names)} are installed in one '
                       "folder and overwrite each other's files", 'wrong',
                       cure)
    build = 'compiled' if values.get('compiled') else \
        "lite, with torchvision's operators"
    if done.error:
        return Finding('mmcv', f'{values["version"]}, {build}: {done.error}',
                       'wrong', cure)
    package = names[0] if names else 'an unknown package'
    return Finding('mmcv', f'{values["version"]} of {package}, {build}')


def check_mmdet() -> Finding:
    done = probe('mmdet')
    if done.error:
        return import_problem('mmdet', 'mmdet', done)
    return check_range('mmdet', 'mmdet', done.values['version'],
                       distributions=tuple(done.values['names']))


def check_timm() -> Finding:
    done = probe('timm')
    if "No module named 'timm'" in done.error:
        return Finding('timm', 'not installed; only TimmBackbone needs it',
                       'note', install('timm'))
    if done.error:
        return import_problem('timm', 'timm', done)
    return check_range('timm', 'timm', done.values['version'])


def check_mtpd() -> Finding:
    folder = os.path.relpath(REPOSITORY)
    cure = pip(f'install --no-deps --no-build-isolation -e {folder}')
    done = probe('mtpd')
    if "No module named 'mtpd'" in done.error:
        return Finding('mtpd', 'not installed', 'wrong', cure)
    if done.error:
        finding = import_problem('mtpd', 'mtpd', done)
        # Raised by mtpd/compat/versions.py, with its own cure.
        problem = re.search(r'EnvironmentProblem: (.+?): pip (.*)',
                            done.error)
        if problem:
            finding.found, finding.cure = problem[1], pip(problem[2])
        elif 'No module named' not in done.error:
            finding.cure = cure
        return finding
    parent = Path(done.values['path']).resolve().parent
    if parent != REPOSITORY:
        return Finding('mtpd', f'imported from {parent}, not from this '
                       'folder', 'note', cure)
    return Finding('mtpd', f'{done.values["version"]}, of this folder')


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the NVIDIA driver supports; None without one."""
    for name in ('libcuda.so.1', 'nvcuda.dll'):
        try:
            version = ctypes.c_int()
            if ctypes.CDLL(name).cuDriverGetVersion(
                    ctypes.byref(version)) == 0 and version.value:
                return version.value // 1000, version.value % 1000 // 10
        except (AttributeError, OSError):
            continue
    return None


def torch_for(driver: tuple[int, int] | None) -> tuple[str | None, bool]:
    """Arguments of :func:`install_torch` for a driver's CUDA."""
    if driver is not None and driver[0] < 12:
        return 'cu118', True
    if driver is not None and driver[0] < 13:
        return 'cu126', False
    return None, False


def check_gpu() -> Finding:
    done = probe('gpu')
    values, driver = done.values, driver_cuda()
    names = ', '.join(values.get('names', []))
    if values.get('seen') and done.error:
        index, older = torch_for(driver)
        return Finding('GPU', f'{names} is visible, but a step on it fails: '
                       f'{done.error}', 'wrong',
                       install_torch(index or 'cu126', older))
    if values.get('seen'):
        return Finding('GPU', f'{names}, CUDA {values["cuda"]}'
                       if values['cuda'] else
                       f'{names}, ROCm {values["rocm"]}')
    if done.error:
        return Finding('GPU', done.error, 'wrong', install_torch())
    if values['rocm']:
        return Finding('GPU', 'not visible to the build for ROCm '
                       f'{values["rocm"]}', 'note')
    if driver is None:
        return Finding('GPU', 'no NVIDIA driver: everything runs on the CPU',
                       'note')
    return check_cuda(values['cuda'], driver)


def check_cuda(cuda: str | None, driver: tuple[int, int]) -> Finding:
    """Why torch, built for ``cuda``, sees no GPU in spite of a driver."""
    support = 'the driver supports CUDA {}.{}'.format(*driver)
    if cuda is None:
        return Finding('GPU', f'{support}, but PyTorch is built without CUDA',
                       'wrong', install_torch(*torch_for(driver)))
    if driver[0] < release(cuda)[0]:
        return Finding('GPU', f'{support}, but PyTorch is built for {cuda}',
                       'wrong', install_torch(*torch_for(driver)))
    if os.environ.get('CUDA_VISIBLE_DEVICES') in ('', '-1'):
        return Finding('GPU', 'hidden by CUDA_VISIBLE_DEVICES', 'note',
                       'unset CUDA_VISIBLE_DEVICES')
    return Finding('GPU', f'{support}, but PyTorch sees no device (in a '
                   'container: was it started with the GPUs?)', 'wrong',
                   'docker run --gpus all ...'
                   if os.path.exists('/.dockerenv') else 'nvidia-smi')


def check_work_dir(folder: str = 'work_dirs') -> Finding:
    existing = Path(folder).resolve()
    while not existing.exists():
        existing = existing.parent
    cure = 'python tools/train.py CONFIG --work-dir ANOTHER_FOLDER'
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding('Work dir', f'{folder} cannot be written to '
                       f'({error.strerror or error})', 'wrong', cure)
    free = shutil.disk_usage(existing).free
    found = f'{folder} can be written to, {free / 2 ** 30:.0f} GiB free'
    if free < FREE_DISK:
        return Finding('Work dir', f'{found}; a stage needs '
                       f'{FREE_DISK / 2 ** 30:.0f}', 'wrong', cure)
    return Finding('Work dir', found)


def cpus() -> int:
    """Number of CPUs that this process may use, by its affinity and by its
    container's share."""
    if hasattr(os, 'sched_getaffinity'):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    try:
        quota, period = Path('/sys/fs/cgroup/cpu.max').read_text().split()
        return min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or 'max'
        return count


def check_processors() -> Finding:
    count, total = cpus(), os.cpu_count() or 1
    threads = os.environ.get('OMP_NUM_THREADS', '')
    cure = f'export OMP_NUM_THREADS={count}'
    found = f'{count} for this process'
    if not threads:
        if count >= total:
            return Finding('Processors', found)
        return Finding('Processors', f'{found} of {total}; PyTorch may start '
                       f'{total} threads', 'note', cure)
    found += f', OMP_NUM_THREADS={threads}'
    if threads.isdigit() and 1 <= int(threads) <= count:
        return Finding('Processors', found)
    return Finding('Processors', found, 'note', cure)


def check_shared_memory(folder: str = '/dev/shm') -> Finding:
    if not os.path.isdir(folder):
        return Finding('Shared memory', f'no {folder} on this system')
    total = shutil.disk_usage(folder).total
    found = f'{total / 2 ** 20:.0f} MiB in {folder}'
    if total >= SHARED_MEMORY:
        return Finding('Shared memory', found)
    return Finding(
        'Shared memory', f'{found}; workers that load images use up to '
        f'{SHARED_MEMORY / 2 ** 20:.0f} MiB, and crash with a bus error if '
        'there is less',
        'wrong', 'docker run --shm-size=8g ...'
        if os.path.exists('/.dockerenv') else
        f'sudo mount -o remount,size=8G {folder}')


def check_git() -> Finding:
    git = shutil.which('git')
    if git is None:
        return Finding('git', 'not installed; progression.json will not '
                       'record the commit', 'note',
                       'sudo apt-get install -y git')
    done = subprocess.run([git, '--version'], capture_output=True, text=True)
    return Finding('git', done.stdout.strip().replace('git version ', ''))


# Each check, and the checks that have to succeed before it runs.
CHECKS: dict[str, tuple[Callable[..., Finding], tuple[str, ...]]] = {
    'Python': (check_python, ()),
    'Packages': (check_packages, ()),
    'NumPy': (check_numpy, ()),
    'PyTorch': (check_torch, ('NumPy',)),
    'torchvision': (check_torchvision, ('PyTorch',)),
    'OpenCV': (check_opencv, ('NumPy',)),
    'pycocotools': (check_pycocotools, ('NumPy',)),
    'Others': (check_others, ('NumPy',)),
    'mmengine': (check_mmengine, ('NumPy',)),
    'setuptools': (check_setuptools, ('mmengine',)),
    'transformers': (check_transformers, ('mmengine', 'PyTorch')),
    'mmcv': (check_mmcv, ('mmengine', 'OpenCV', 'torchvision')),
    'mmdet': (check_mmdet, ('mmcv', 'transformers', 'pycocotools', 'Others')),
    'timm': (check_timm, ('torchvision',)),
    'mtpd': (check_mtpd, ('mmdet', 'setuptools')),
    'GPU': (check_gpu, ('torchvision',)),
    'Work dir': (check_work_dir, ()),
    'Processors': (check_processors, ()),
    'Shared memory': (check_shared_memory, ()),
    'git': (check_git, ())}


def examine(work_dir: str) -> Iterator[Finding]:
    """The findings, one by one; a check that raises is a note."""
    TOGETHER.update(run_together())
    passed = set()
    for what, (check, needs) in CHECKS.items():
        missing = [name for name in needs if name not in passed]
        if missing:
            finding = Finding(what, f'not checked: {missing[0]} has to be '
                              'cured first', 'skipped')
        else:
            try:
                finding = check(work_dir) if what == 'Work dir' else check()
            except Exception as error:
                finding = Finding(what, 'the check failed: '
                                  f'{type(error).__name__}: {error}', 'note')
        if finding.state in ('ok', 'note'):
            passed.add(what)
        yield finding


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', default='work_dirs', metavar='FOLDER',
                        type=os.path.expanduser,
                        help='the folder of trainings (%(default)s)')
    parser.add_argument('--json', action='store_true',
                        help='print the findings as JSON')
    args = parser.parse_args()
    findings = []
    for finding in examine(args.work_dir):
        findings.append(finding)
        if not args.json:
            print(f'{finding.state:8}{finding.what:14}{finding.found}')
            if finding.cure:
                print(f'{"":8}{"cure:":14}{finding.cure}', flush=True)
    wrong = [f for f in findings if f.state == 'wrong']
    if args.json:
        print(json.dumps({'ok': not wrong,
                          'findings': [asdict(f) for f in findings]},
                         indent=1))
    elif wrong:
        count = f'{len(wrong)} things are' if len(wrong) > 1 else \
            'One thing is'
        print(f'{count} wrong. Run the first cure, then this again; or '
              "install the whole tested set into .venv: 'make install'.")
    else:
        print('Nothing is wrong.')
    sys.exit(bool(wrong))


if __name__ == '__main__':
    main()
