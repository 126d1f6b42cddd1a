"""What of this environment is wrong, and the one command that cures it.

    python tools/doctor.py [--work-dir work_dirs] [--json]

Needs nothing but Python: each package is imported in a process of its own, so
that one that is missing, or ends its process, is a line of the table. Exits
with 1 if something is wrong. A note is no fault: it says what is missing for
some purpose, or was never tested.
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

# A stage of a RetinaNet-R50 keeps three checkpoints of 0.3 GB and a student.
FREE_DISK = 2 * 2 ** 30
# 4 workers, each two batches ahead, of 16 images of 800x1333 as bytes.
SHARED_MEMORY = 4 * 2 * 16 * 800 * 1333 * 3
SECONDS = 180  # for one import; a first one from a network disk takes long

# What a module is installed as, where that is not its name.
DISTRIBUTIONS = {
    'cv2': 'opencv-python-headless', 'PIL': 'pillow', 'yaml': 'PyYAML',
    'mmcv': 'mmcv-lite', 'pkg_resources': 'setuptools'}

# That setup.py asks for, as they are imported, and OpenCV, which mmengine asks
# for.
MODULES = ('numpy', 'torch', 'torchvision', 'cv2', 'pycocotools', 'scipy',
           'matplotlib', 'rich', 'mmengine', 'mmcv', 'mmdet')

# How errors of packages built for another NumPy begin or go on.
OTHER_NUMPY = re.compile('numpy.dtype size changed|compiled using NumPy 1|'
                         'numpy.core.multiarray failed|_ARRAY_API not found|'
                         'Numpy is not available')


@dataclass
class Finding:
    """One line of the table.

    Attributes:
        what: What was looked at.
        found: What is there, or what is wrong with it.
        state: 'ok', 'wrong', 'note' or, where something before it has to be
            cured first, 'skipped'.
        cure: The command, None where none is needed.
    """
    what: str
    found: str
    state: str = 'ok'
    cure: str | None = None


# ------------------------------------------------ what is asked for, and where


def requirements() -> dict[str, str]:
    """Distribution -> version range, as ``setup.py`` says: its own text, as
    the package itself may not be installed."""
    call = next(node for node in ast.walk(ast.parse(
        (REPOSITORY / 'setup.py').read_text())) if isinstance(node, ast.Call)
        and getattr(node.func, 'id', '') == 'setup')
    given = {k.arg: k.value for k in call.keywords}
    listed = ast.literal_eval(given['install_requires']) + \
        ast.literal_eval(given['extras_require'])['timm']
    ranges = {'python': ast.literal_eval(given['python_requires'])}
    for line in listed:
        name, wanted = _found(r'([\w.-]+)(.*)', line)
        ranges[name] = wanted
    return ranges


def tested() -> dict[str, str]:
    """Distribution -> version of the tested set, and its ``python``."""
    text = (REPOSITORY / 'constraints.txt').read_text()
    versions = dict(re.findall(r'^([\w.-]+)==([^\s;]+)', text, re.MULTILINE))
    versions['python'], = _found(r'Python (\d+\.\d+)', text)
    return versions


def _found(pattern: str, text: str) -> tuple[str, ...]:
    """The groups of the first match.

    Raises:
        ValueError: There is none.
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
        operator, other = _found(r'^\s*([<>=!]+)\s*(\S+)', bound)
        ours, theirs = (v + (0,) * (4 - len(v)) for v in (
            release(version), release(other)))
        if not {'>=': ours >= theirs, '<': ours < theirs,
                '<=': ours <= theirs, '>': ours > theirs,
                '==': ours == theirs, '!=': ours != theirs}[operator]:
            return False
    return True


def pip(words: str) -> str:
    """A pip command of this very Python."""
    found = shutil.which('python')
    python = 'python' if found and \
        os.path.abspath(found) == os.path.abspath(sys.executable) \
        else sys.executable
    return f'{python} -m pip {words}'


def install(*names: str, options: str = '') -> str:
    """Installs distributions at their tested versions and nothing else."""
    pinned = tested()
    return pip(f'install {options}--no-deps ' + ' '.join(
        f'{n}=={pinned[n]}' if n in pinned else f'"{n}{requirements()[n]}"'
        if n in requirements() else n for n in names))


def install_torch(index: str | None = None, older: bool = False) -> str:
    """torch and torchvision that belong together, anew, with what they need.

    ``index`` is a folder of PyTorch's own wheels, such as ``cu126``; the
    tested set has the libraries of another CUDA.
    """
    pinned = tested()
    pair = ('2.6.0', '0.21.0') if older else (pinned['torch'],
                                              pinned['torchvision'])
    return pip(f'install --force-reinstall torch=={pair[0]} '
               f'torchvision=={pair[1]}' + (
                   f' --index-url https://download.pytorch.org/whl/{index}'
                   if index else ' -c ' + os.path.relpath(
                       REPOSITORY / 'constraints.txt')))


# -------------------------------------------------- a process for each package


@dataclass
class Probe:
    """What a process said before it ended.

    Attributes:
        values: By name.
        error: The last line of its error, or how it died; '' if it did well.
        text: All of its error.
    """
    values: dict
    error: str
    text: str = ''


# Without the current folder, which tools/train.py does not look into either.
PRELUDE = '''
import importlib.util, json, sys
sys.path.pop(0)
def say(**values):
    print('\\n@doctor ' + json.dumps(values), flush=True)
def load(path):
    spec = importlib.util.spec_from_file_location('loaded_alone', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
def check(function):
    versions = load({versions!r})
    try:
        getattr(versions, function)()
    except versions.EnvironmentProblem as problem:
        say(what=problem.what, cure=problem.cure)
        sys.exit()
def distributions(module):
    from importlib.metadata import distributions
    names = set()
    for one in distributions():
        tops = (one.read_text('top_level.txt') or '').split()
        if module in tops or not tops and any(
                f.parts[0] == module for f in one.files or ()):
            names.add(one.metadata['Name'])
    return sorted(names)
'''.replace('{versions!r}', repr(str(VERSIONS)))


def probe(code: str) -> Probe:
    """Run code, which calls ``say(name=value)``, in another Python."""
    try:
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', PRELUDE + code],
            capture_output=True, text=True, timeout=SECONDS, errors='replace')
    except subprocess.TimeoutExpired:
        return Probe({}, f'nothing came in {SECONDS} seconds')
    values = {}
    for line in done.stdout.splitlines():
        if line.startswith('@doctor '):
            values.update(json.loads(line[len('@doctor '):]))
    if done.returncode == 0:
        return Probe(values, '', done.stderr)
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return Probe(values, f'the process was ended by signal {-done.returncode}'
                 if done.returncode < 0 else said[-1] if said else
                 f'exit code {done.returncode}', done.stderr)


def broken(what: str, package: str, done: Probe) -> Finding:
    """A package that cannot be imported, or not used."""
    missing = re.search(r"No module named '([\w.]+)'", done.error)
    if missing:
        module = missing[1].split('.')[0]
        name = DISTRIBUTIONS.get(module, module)
        return Finding(what, 'not installed' if name == package else
                       f'{package} needs {module}, which is not installed',
                       'wrong', install(name))
    if OTHER_NUMPY.search(done.text):
        return Finding(what, 'built for another NumPy: ' + done.error,
                       'wrong', install(package,
                                        options='--force-reinstall '))
    return Finding(what, done.error, 'wrong',
                   install(package, options='--force-reinstall '))


def in_range(what: str, package: str, version: str, note: str = '',
             forks: tuple[str, ...] = ()) -> Finding:
    """A package that can be used, held against ``setup.py``'s range."""
    wanted = requirements().get(package, '')
    fork = next((f for f in forks if f != package), None)
    found = version + (f' of {fork}' if fork else '') + note
    if fits(version, wanted):
        return Finding(what, found)
    if fork:
        return Finding(what, f'{found}: a fork, not tested by us', 'note')
    return Finding(what, f'{found}, and {wanted} is needed', 'wrong',
                   install(package))


# ------------------------------------------------------------------ the checks


def check_python() -> Finding:
    version = '.'.join(map(str, sys.version_info[:3]))
    wanted, known = requirements()['python'], tested()['python']
    if not fits(version, wanted):
        return Finding('Python', f'{version}, and {wanted} is needed',
                       'wrong', f'make install PYTHON=python{known}')
    if version.startswith(f'{known}.'):
        return Finding('Python', version)
    return Finding('Python', f'{version}; tested with {known} only', 'note')


def check_packages() -> Finding:
    """What is not there at all, before anything is imported."""
    done = probe(f"""say(missing=[name for name in {MODULES!r}
             if importlib.util.find_spec(name) is None])""")
    if done.error:
        return Finding('Packages', done.error, 'note')
    missing = done.values['missing']
    if not missing:
        return Finding('Packages', f'all {len(MODULES)} are there')
    cure = install_torch() if missing == ['torch'] else install(
        DISTRIBUTIONS.get(missing[0], missing[0])) if len(missing) == 1 \
        else pip('install --no-deps -r ' + os.path.relpath(
            REPOSITORY / 'constraints.txt'))
    return Finding('Packages', f'{", ".join(missing)} not installed', 'wrong',
                   cure)


def check_numpy() -> Finding:
    done = probe('import numpy; say(version=numpy.__version__)')
    return broken('NumPy', 'numpy', done) if done.error else in_range(
        'NumPy', 'numpy', done.values['version'])


def check_torch() -> Finding:
    done = probe('import torch; say(version=torch.__version__)\n'
                 'import numpy; torch.from_numpy(numpy.zeros(1))')
    if done.error:
        said = broken('PyTorch', 'torch', done)
        if 'numpy' not in said.found:
            said.cure = install_torch()
        return said
    said = in_range('PyTorch', 'torch', done.values['version'])
    if said.state == 'wrong':
        said.cure = install_torch()
    return said


def check_torchvision() -> Finding:
    done = probe("""check('check_torchvision')
import torch, torchvision
say(version=torchvision.__version__)
box = torch.tensor([[0., 0., 1., 1.]])
assert len(torchvision.ops.nms(box, torch.ones(1), .5)) == 1""")
    what = done.values.get('what') or done.error
    if what:
        return Finding('torchvision', what, 'wrong', install_torch())
    said = in_range('torchvision', 'torchvision', done.values['version'],
                    ', its operators run')
    if said.state == 'wrong':
        said.cure = install_torch()
    return said


def check_opencv() -> Finding:
    done = probe("import cv2; say(version=cv2.__version__)\n"
                 "say(names=distributions('cv2'))")
    library = re.search(r'(lib\w+\.so[.\d]*): cannot open', done.error)
    if library:
        return Finding('OpenCV', f'needs {library[1]}, which this system '
                       'lacks; the headless wheel does not', 'wrong', pip(
                           'uninstall -y opencv-python && ') + install(
                               'opencv-python-headless',
                               options='--force-reinstall '))
    if done.error:
        return broken('OpenCV', 'opencv-python-headless', done)
    return Finding('OpenCV', done.values['version'] + ' of ' + (
        ' and '.join(done.values['names']) or 'an unknown wheel'))


def check_pycocotools() -> Finding:
    done = probe('import numpy\nfrom pycocotools import mask\n'
                 'mask.encode(numpy.ones((2, 2), dtype="uint8", order="F"))\n'
                 'from importlib.metadata import version\n'
                 'say(version=version("pycocotools"))')
    return broken('pycocotools', 'pycocotools', done) if done.error \
        else in_range('pycocotools', 'pycocotools', done.values['version'])


def check_others() -> Finding:
    """Plain requirements: nothing of them is bent or known to clash."""
    found = []
    for name, module in (('scipy', 'scipy.linalg'),
                         ('matplotlib', 'matplotlib.pyplot'),
                         ('rich', 'rich.table')):
        done = probe(f'import {module}\nfrom importlib.metadata import '
                     f'version\nsay(version=version("{name}"))')
        said = broken(name, name, done) if done.error else in_range(
            name, name, done.values['version'])
        if said.state == 'wrong':
            return said
        found.append(f'{name} {said.found}')
    return Finding('Others', ', '.join(found))


def check_mmengine() -> Finding:
    done = probe("import mmengine; say(version=mmengine.__version__)\n"
                 "say(names=distributions('mmengine'))")
    return broken('mmengine', 'mmengine', done) if done.error else in_range(
        'mmengine', 'mmengine', done.values['version'],
        forks=tuple(done.values['names']))


def check_setuptools() -> Finding:
    done = probe("check('check_pkg_resources')")
    if 'what' in done.values:
        return Finding('setuptools', done.values['what'], 'wrong',
                       pip(done.values['cure'].replace('pip ', '', 1)))
    if done.error:
        return broken('setuptools', 'setuptools', done)
    return Finding('setuptools', "mmengine reads 'mmdet::...'")


def check_transformers() -> Finding:
    done = probe("import importlib.util as u\n"
                 "say(there=u.find_spec('transformers') is not None)\n"
                 "import mmengine.optim")
    if not done.error:
        return Finding('transformers', 'there, mmengine takes it'
                       if done.values['there'] else
                       'not installed, not needed')
    if done.values.get('there') and re.search('transformers|Adafactor',
                                              done.text):
        return Finding('transformers', "keeps mmengine's optimizers from "
                       f'being imported ({done.error})', 'wrong',
                       pip('uninstall -y transformers'))
    return broken('transformers', 'mmengine', done)


def check_mmcv() -> Finding:
    lite = f'mmcv-lite=={tested()["mmcv-lite"]}'
    anew = pip('uninstall -y mmcv mmcv-full mmcv-lite && ') + pip(
        f'install --no-deps {lite}')
    done = probe(f"""import mmcv
say(version=mmcv.__version__, names=distributions('mmcv'))
say(compiled=importlib.util.find_spec('mmcv._ext') is not None)
if importlib.util.find_spec('mmdet'):
    check('check_mmcv')
load({str(OPERATORS)!r}).install_operators()
import torch
from mmcv.ops import nms
box = torch.tensor([[0., 0., 1., 1.]])
assert len(nms(box, torch.ones(1), .5)[1]) == 1
say(done=True)""")
    values = done.values
    if 'what' in values:
        return Finding('mmcv', values['what'], 'wrong', anew)
    if done.error and 'version' not in values:
        return broken('mmcv', 'mmcv-lite', done)
    if len(values['names']) > 1:
        return Finding('mmcv', f'{" and ".join(values["names"])} lie in one '
                       "folder, over each other's files", 'wrong', anew)
    how = 'compiled' if values.get('compiled') else \
        "lite, with torchvision's operators"
    if done.error:
        return Finding('mmcv', f'{values["version"]}, {how}: {done.error}',
                       'wrong', anew)
    return Finding('mmcv', f'{values["version"]} of '
                   f'{(values["names"] or ["an unknown package"])[0]}, {how}')


def check_mmdet() -> Finding:
    done = probe(f"""
load({str(OPERATORS)!r}).install_operators()
import mmdet; say(version=mmdet.__version__, names=distributions('mmdet'))
import mmdet.apis""")
    return broken('mmdet', 'mmdet', done) if done.error else in_range(
        'mmdet', 'mmdet', done.values['version'],
        forks=tuple(done.values['names']))


def check_timm() -> Finding:
    done = probe('import timm; say(version=timm.__version__)')
    if "No module named 'timm'" in done.error:
        return Finding('timm', 'not installed; only TimmBackbone needs it',
                       'note', install('timm'))
    return broken('timm', 'timm', done) if done.error else in_range(
        'timm', 'timm', done.values['version'])


def check_mtpd() -> Finding:
    here = os.path.relpath(REPOSITORY)
    cure = pip(f'install --no-deps --no-build-isolation -e {here}')
    done = probe('import mtpd; say(version=mtpd.__version__, '
                 'path=mtpd.__path__[0])')
    if "No module named 'mtpd'" in done.error:
        return Finding('mtpd', 'not installed', 'wrong', cure)
    if done.error:
        said = broken('mtpd', 'mtpd', done)
        own = re.search(r'EnvironmentProblem: (.+?): pip (.*)', done.error)
        if own:  # of mtpd/compat/versions.py
            said.found, said.cure = own[1], pip(own[2])
        elif "No module named" not in done.error:
            said.cure = cure
        return said
    where = Path(done.values['path']).resolve().parent
    if where != REPOSITORY:
        return Finding('mtpd', f'imported from {where}, not from here',
                       'note', cure)
    return Finding('mtpd', f'{done.values["version"]}, of this folder')


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the driver takes, None without an NVIDIA one."""
    for name in ('libcuda.so.1', 'nvcuda.dll'):
        try:
            version = ctypes.c_int()
            if ctypes.CDLL(name).cuDriverGetVersion(
                    ctypes.byref(version)) == 0 and version.value:
                return version.value // 1000, version.value % 1000 // 10
        except (AttributeError, OSError):
            continue
    return None


def check_gpu() -> Finding:
    done = probe("""import torch
say(cuda=torch.version.cuda, rocm=getattr(torch.version, 'hip', None))
say(seen=torch.cuda.is_available())
if torch.cuda.is_available():
    say(names=[torch.cuda.get_device_name(i)
               for i in range(torch.cuda.device_count())])
    assert (torch.ones(2, device='cuda') + 1).sum().item() == 4
    import torchvision
    torchvision.ops.nms(torch.ones(1, 4, device='cuda'),
                        torch.ones(1, device='cuda'), .5)""")
    values, driver = done.values, driver_cuda()
    index, older = ('cu118', True) if driver and driver[0] < 12 else (
        'cu126' if driver and driver[0] < 13 else None, False)
    if values.get('seen') and not done.error:
        return Finding('GPU', ', '.join(values['names']) + (
            f', CUDA {values["cuda"]}' if values['cuda'] else
            f', ROCm {values["rocm"]}'))
    if values.get('seen'):
        return Finding('GPU', f'{", ".join(values.get("names", []))} is '
                       f'seen, and a step on it fails: {done.error}',
                       'wrong', install_torch(index or 'cu126', older))
    if done.error:
        return Finding('GPU', done.error, 'wrong', install_torch())
    if values['rocm']:
        return Finding('GPU', f'none seen by the build for ROCm '
                       f'{values["rocm"]}', 'note')
    if driver is None:
        return Finding('GPU', 'no NVIDIA driver: all runs on the CPU', 'note')
    takes = 'the driver takes CUDA {}.{}'.format(*driver)
    if values['cuda'] is None:
        return Finding('GPU', f'{takes}, and PyTorch is built without CUDA',
                       'wrong', install_torch(index, older))
    if driver[0] < release(values['cuda'])[0]:
        return Finding('GPU', f'{takes}, and PyTorch is built for '
                       f'{values["cuda"]}', 'wrong',
                       install_torch(index, older))
    if os.environ.get('CUDA_VISIBLE_DEVICES') in ('', '-1'):
        return Finding('GPU', 'hidden by CUDA_VISIBLE_DEVICES', 'note',
                       'unset CUDA_VISIBLE_DEVICES')
    return Finding('GPU', f'{takes}, and PyTorch sees no device (in a '
                   'container: was it started with the GPUs?)', 'wrong',
                   'nvidia-smi' if not os.path.exists('/.dockerenv')
                   else 'docker run --gpus all ...')


def check_work_dir(folder: str = 'work_dirs') -> Finding:
    there = Path(folder).resolve()
    while not there.exists():
        there = there.parent
    elsewhere = 'python tools/train.py CONFIG --work-dir ANOTHER_FOLDER'
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding('Work dir', f'{folder} cannot be written to '
                       f'({error.strerror or error})', 'wrong', elsewhere)
    free = shutil.disk_usage(there).free
    said = f'{folder} can be written to, {free / 2 ** 30:.0f} GiB free'
    if free < FREE_DISK:
        return Finding('Work dir', f'{said}; a stage needs '
                       f'{FREE_DISK / 2 ** 30:.0f}', 'wrong', elsewhere)
    return Finding('Work dir', said)


def cpus() -> int:
    """That this process may use: also a container's share counts."""
    count = len(os.sched_getaffinity(0)) if hasattr(
        os, 'sched_getaffinity') else os.cpu_count() or 1
    try:
        quota, period = Path('/sys/fs/cgroup/cpu.max').read_text().split()
        return min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or 'max'
        return count


def check_processors() -> Finding:
    count, seen = cpus(), os.cpu_count() or 1
    given = os.environ.get('OMP_NUM_THREADS', '')
    found = f'{count} for this process'
    if given and not (given.isdigit() and 1 <= int(given) <= count):
        return Finding('Processors', f'{found}, and OMP_NUM_THREADS={given}',
                       'note', f'export OMP_NUM_THREADS={count}')
    if not given and count < seen:
        return Finding('Processors', f'{found} of {seen}; PyTorch may start '
                       f'{seen} threads', 'note',
                       f'export OMP_NUM_THREADS={count}')
    return Finding('Processors', found + (
        f', OMP_NUM_THREADS={given}' if given else ''))


def check_shared_memory(folder: str = '/dev/shm') -> Finding:
    if not os.path.isdir(folder):
        return Finding('Shared memory', f'no {folder} on this system')
    total = shutil.disk_usage(folder).total
    found = f'{total / 2 ** 20:.0f} MiB in {folder}'
    if total >= SHARED_MEMORY:
        return Finding('Shared memory', found)
    return Finding(
        'Shared memory', f'{found}; workers that load images fill '
        f'{SHARED_MEMORY / 2 ** 20:.0f} MiB, and then die by a bus error',
        'wrong', 'docker run --shm-size=8g ...'
        if os.path.exists('/.dockerenv') else
        f'sudo mount -o remount,size=8G {folder}')


def check_git() -> Finding:
    git = shutil.which('git')
    if git is None:
        return Finding('git', 'not installed; progression.json goes without '
                       'the commit', 'note', 'sudo apt-get install -y git')
    done = subprocess.run([git, '--version'], capture_output=True, text=True)
    return Finding('git', done.stdout.strip().replace('git version ', ''))


# What is looked at, and what has to be right before.
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
    """The findings, one by one; a check that fails itself is one, too."""
    right = set()
    for what, (check, needs) in CHECKS.items():
        lacking = [name for name in needs if name not in right]
        if lacking:
            finding = Finding(what, f'not looked at before {lacking[0]} is '
                              'cured', 'skipped')
        else:
            try:
                finding = check(work_dir) if what == 'Work dir' else check()
            except Exception as error:
                finding = Finding(
                    what, f'could not be looked at: {type(error).__name__}: '
                    f'{error}', 'note')
        if finding.state in ('ok', 'note'):
            right.add(what)
        yield finding


def main() -> None:
    made = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument('--work-dir', default='work_dirs', metavar='FOLDER',
                      help='where training is to write (%(default)s)')
    made.add_argument('--json', action='store_true',
                      help='print the findings as JSON')
    args = made.parse_args()
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
        many = f'{len(wrong)} things are' if len(wrong) > 1 else \
            'One thing is'
        print(f'{many} wrong. Run the first cure, then this again; or put '
              "the whole tested set into .venv: 'make install'.")
    else:
        print('Nothing is wrong.')
    sys.exit(bool(wrong))


if __name__ == '__main__':
    main()
