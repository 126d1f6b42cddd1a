"""The package, and two files that lie beside it where it is installed."""
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

STARTUP = Path('startup/mtpd_operators.py')
# Python runs this line of a .pth file whenever it starts.
LINE = 'import mtpd_operators; mtpd_operators.install()\n'


class BuildWithStartup(build_py):
    """Also installs the files with which mmcv finds operators (see there).

    An editable install has only what its wheel's folder holds, which
    setuptools sets as the folder to install to.
    """

    def run(self):
        super().run()
        module, line = self._startup()
        module.parent.mkdir(parents=True, exist_ok=True)
        self.copy_file(str(STARTUP), str(module), preserve_mode=False)
        line.write_text(LINE)

    def get_outputs(self, include_bytecode=True):
        outputs = super().get_outputs(include_bytecode)
        if not self.editable_mode:
            outputs += map(str, self._startup())
        return outputs

    def _startup(self):
        folder = self.get_finalized_command('install').install_lib \
            if self.editable_mode else self.build_lib
        module = Path(folder, STARTUP.name)
        return module, module.with_suffix('.pth')


setup(
    name='mtpd',
    version='0.1.0',
    description='Progressive multi-teacher distillation of MMDetection '
                'detectors',
    license='Apache-2.0',
    # Named, an editable install is a line in a .pth file. Without, it is a
    # finder that comes after all folders: in the folder that holds the clone,
    # 'import mtpd' would find the clone's folder, an empty package.
    package_dir={'': '.'},
    cmdclass={'build_py': BuildWithStartup},
    packages=find_packages(include=['mtpd', 'mtpd.*']),
    package_data={'mtpd': ['py.typed'], 'mtpd.report': ['page.html']},
    python_requires='>=3.10',
    install_requires=[
        'torch>=2.6',
        'torchvision>=0.21',
        'mmengine>=0.10.7,<0.11',
        'mmdet>=3.3.0,<3.4',
        # No floor on mmcv by distribution name: a compiled ``mmcv``, an
        # ``mmcv-lite`` or a maintained fork all import as ``mmcv``, and
        # mtpd/compat/versions.py checks what is there.
        'numpy>=1.26',
        'pycocotools>=2.0.7',
        'matplotlib>=3.8',
        'scipy>=1.11',
        'rich>=13',
        'setuptools<82',  # mmengine 0.10.7 imports pkg_resources
    ],
    extras_require={
        'timm': ['timm>=1.0'],
        'compress': ['torch-pruning>=1.6'],
        'onnx': ['onnx>=1.17', 'onnxruntime>=1.20'],
        'test': ['pytest>=8', 'pytest-xdist>=3.6', 'hypothesis>=6',
                 'timm>=1.0', 'torch-pruning>=1.6', 'onnx>=1.17',
                 'onnxruntime>=1.20'],
        'dev': ['ruff>=0.17', 'mypy>=2.4', 'import-linter>=2.5',
                'vulture>=2.14', 'radon>=6'],
    },
)
