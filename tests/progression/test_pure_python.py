"""Pure-Python configs (read_base, types as classes) work as others do."""
import copy
import math
import re

import mmdet.registry
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import Registry

from mtpd.config_types import type_name, with_names
from mtpd.distill.detector import build_detector
from mtpd.plan.detectors import load_config
from mtpd.plan.identity import identity_of
from mtpd.plan.plan import make_plan
from mtpd.progression import check, run_progression


class Code:
    """A name of Python that repr() writes without quotes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def class_of(name: str) -> type | None:
    """The class that a short name means in one of mmdet's registries; None
    for names of another kind, such as 'nms'."""
    for registry in vars(mmdet.registry).values():
        if not isinstance(registry, Registry) or registry.scope != 'mmdet':
            continue
        while registry is not None:
            if name in registry.module_dict:
                return registry.module_dict[name]
            registry = registry.parent
    return None


def with_classes(value, imports: set):
    """A config's value in which each type is a class that is imported."""
    if isinstance(value, dict):
        return {key: _class(entry, imports) if key == 'type'
                else with_classes(entry, imports)
                for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(with_classes(entry, imports) for entry in value)
    return value


def _class(name, imports: set):
    cls = class_of(name)
    if cls is None or cls.__name__ != name:  # BN is nn.BatchNorm2d
        return name
    imports.add(f'from {cls.__module__} import {cls.__name__}')
    return Code(cls.__name__)


def write_pure(path, settings: dict, base: str | None = None) -> None:
    """A pure-Python config file of these settings, with modules and functions
    that its author has written them with."""
    imports: set = set()
    lines = [f'{key} = {with_classes(value, imports)!r}'
             for key, value in settings.items()]
    head = ['import math', 'import torch', 'from copy import deepcopy',
            'from math import sqrt',
            'from mmengine.config import read_base', *sorted(imports)]
    if base:
        head += ['with read_base():', f'    from .{base} import *']
    tail = ['def double(number):', '    return 2 * number']
    path.write_text('\n'.join(head + lines + tail) + '\n')


@pytest.fixture
def pure(toy, tmp_path):
    """The toy as two pure-Python files, with a teacher's of its own; the
    checkpoints lie beside them."""
    folder = tmp_path / 'my configs'
    folder.mkdir()
    plain = toy(order=['wide']).to_dict()
    settings = plain.pop('mtpd')
    plain.pop('default_scope'), plain.pop('work_dir')
    write_pure(folder / 'base.py', plain)
    del settings['teachers']['swin']
    wide = settings['teachers']['wide']
    write_pure(folder / 'wide.py', Config.fromfile(wide['config']).to_dict())
    torch.save(torch.load(wide['checkpoint']), folder / 'wide.pth')
    wide.update(config='wide.py', checkpoint='wide.pth')
    write_pure(folder / 'progression.py', dict(mtpd=settings), base='base')
    cfg = load_config(str(folder / 'progression.py'))
    cfg.work_dir = str(tmp_path / 'work')
    return cfg


def test_a_pure_python_config_is_the_same_plan(pure, toy):
    plain = toy(order=['wide'])
    plan, expected = make_plan(pure), make_plan(plain)
    assert plan.student.config.default_scope == 'mmdet'
    assert not {'torch', 'math', 'deepcopy', 'sqrt', 'read_base', 'double'} \
        & {*plan.student.config}
    assert plan.student.model.to_dict() == expected.student.model.to_dict()
    assert plan.teachers['wide'].model.to_dict() == \
        expected.teachers['wide'].model.to_dict()
    assert identity_of(plan, plan.order) == \
        identity_of(expected, expected.order)
    assert check(pure).problems == []


def test_it_is_trained_resumed_and_exported(pure, toy, tmp_path, monkeypatch):
    """One stage that stops after an epoch; the student equals that of the
    same config in the older form."""
    from mtpd.distill.distiller import FeatureDistiller
    whole, steps = FeatureDistiller.loss, []

    def stops(self, *args):
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return whole(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureDistiller, 'loss', stops)
        with pytest.raises(KeyboardInterrupt):
            run_progression(copy.deepcopy(pure), with_probe=False)
    result = run_progression(pure, resume=True)
    plain = toy(order=['wide'])
    plain.work_dir = str(tmp_path / 'plain')
    expected = run_progression(plain, with_probe=False)
    weights, others = (torch.load(run.student)['state_dict']
                       for run in (result, expected))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[key], others[key]) for key in weights)

    stage = tmp_path / 'work' / 'stage1_wide'
    for path in (*stage.glob('*/vis_data/config.py'), *stage.glob('*.py'),
                 tmp_path / 'work' / 'config.py',
                 tmp_path / 'work' / 'student.py'):
        assert '<class' not in path.read_text()
        Config.fromfile(str(path))
    student = Config.fromfile(str(tmp_path / 'work' / 'student.py'))
    assert student.default_scope == 'mmdet'
    build_detector(student.model, result.student)
    assert re.search('checkpoint=.*my configs/wide.pth',
                     (tmp_path / 'work' / 'config.py').read_text())


def test_types_by_any_name():
    from mmdet.models import RetinaNet
    for kind in (RetinaNet, 'RetinaNet', 'mmdet.RetinaNet',
                 'mmdet.models.detectors.RetinaNet'):
        assert type_name(kind) == 'RetinaNet'
    assert type_name(None) == ''


def test_classes_get_the_name_by_which_the_same_class_is_found():
    from mmcv.transforms import Resize as Other
    from mmdet.datasets.transforms import Resize
    from mmengine.dataset import pseudo_collate

    class Local:
        pass

    cfg = Config(dict(
        steps=[dict(type=Resize), (dict(type=Other),)], own=dict(type=Local),
        norm=dict(type=torch.nn.BatchNorm2d), math=math, name=type_name,
        loader=dict(collate=pseudo_collate),
        optimizer=dict(type=torch.optim.SGD), dtype=torch.bfloat16))
    named = with_names(cfg)
    assert named.steps[0].type == 'Resize'
    assert named.steps[1][0].type == f'{Other.__module__}.Resize'
    assert named.own.type is Local
    assert named.norm.type == 'torch.nn.modules.batchnorm.BatchNorm2d'
    assert named.optimizer.type == 'SGD'
    assert named.loader.collate == 'mmengine.dataset.utils.pseudo_collate'
    assert named.dtype == 'bfloat16'
    assert 'math' not in named and 'name' not in named
    assert named.default_scope == 'mmdet'
    plain = Config(dict(model=dict(type='RetinaNet')))
    assert with_names(plain) is plain


def test_classes_in_an_older_config_do_too(toy):
    """What a script or an import at a config's head leaves in it."""
    from mmdet.datasets import CocoDataset
    from mmengine.hooks import CheckpointHook
    from mmengine.runner import EpochBasedTrainLoop
    cfg = toy()
    cfg.pop('default_scope')
    cfg.train_cfg.type = EpochBasedTrainLoop
    cfg.train_dataloader.dataset.type = CocoDataset
    cfg.default_hooks.checkpoint.type = CheckpointHook
    plan = make_plan(cfg)
    assert plan.student.config.train_cfg.type == 'EpochBasedTrainLoop'
    assert plan.student.config.train_dataloader.dataset.type == 'CocoDataset'
    assert plan.student.config.default_scope == 'mmdet'
    assert check(cfg).problems == []
