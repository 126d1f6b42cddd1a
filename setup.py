from setuptools import find_packages, setup

setup(
    name='mtpd',
    version='0.1.0',
    description='Progressive multi-teacher distillation of MMDetection '
                'detectors',
    license='Apache-2.0',
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
        'test': ['pytest>=8', 'pytest-xdist>=3.6', 'hypothesis>=6',
                 'timm>=1.0'],
        'dev': ['ruff>=0.17', 'mypy>=2.4', 'import-linter>=2.5',
                'vulture>=2.14', 'radon>=6'],
    },
)
