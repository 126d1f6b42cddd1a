"""Lets ``import mmcv.ops`` and mmdet work in every process of an environment.

mmcv-lite has no ``mmcv._ext``, and mmdet cannot be imported without it. Python
runs the line of ``mtpd_operators.pth`` when it starts, which adds a finder for
this one module after all others, so that a compiled mmcv wins. The finder
reads mtpd/compat/operators.py, which imports torch and torchvision, only when
mmcv asks for the module; nothing else of mtpd is imported.

It costs a Python that does not use it less than a millisecond. setup.py puts
this file and the line beside the installed packages; ``pip uninstall
mtpd`` removes them. No longer needed when mtpd/compat/operators.py is not.
"""
import sys

MODULE = 'mmcv._ext'


class OperatorsFinder:
    """Finds ``mmcv._ext`` where mmcv itself has none.

    It is finder and loader at once: this file is imported by every process
    of the environment, and importlib.abc would take longer than it.
    """

    def find_spec(self, name, path=None, target=None):
        if name != MODULE or _operators_file() is None:
            return None
        from importlib.machinery import ModuleSpec
        return ModuleSpec(name, self, origin='torchvision')

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        operators = _operators()
        if hasattr(operators, 'fill'):
            operators.fill(module)
        else:  # a checkout from before this file
            operators._TorchvisionLoader().exec_module(module)


def install():
    """Add the finder, once."""
    if not any(isinstance(one, OperatorsFinder) for one in sys.meta_path):
        sys.meta_path.append(OperatorsFinder())


def _operators_file():
    """mtpd/compat/operators.py of the installed mtpd, which is not imported;
    None if mtpd is not there (any more)."""
    import os
    from importlib.util import find_spec
    try:
        spec = find_spec('mtpd')
    except ValueError:  # an mtpd without a spec in sys.modules
        return None
    for folder in spec and spec.submodule_search_locations or ():
        file = os.path.join(folder, 'compat', 'operators.py')
        if os.path.isfile(file):
            return file
    return None


def _operators():
    from importlib.util import module_from_spec, spec_from_file_location
    loaded = sys.modules.get('mtpd.compat.operators')
    if loaded is not None:
        return loaded
    spec = spec_from_file_location('mtpd_operators_of_torchvision',
                                   _operators_file())
    loaded = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
