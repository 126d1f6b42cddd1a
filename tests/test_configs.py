"""Every config under configs/ loads, its plan can be made, and thin versions
of its detectors fit together. One config of each family takes a training step
on COCO images. Configs that are added later are tested without a change here.

The step needs a subset of COCO in the folder that MTPD_COCO_SUBSET names (or
in ../shared/data/coco_subset).
"""
import copy
import os
import re
import runpy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
import yaml
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import LinearLR, build_optim_wrapper
from shrink import shrunk

from mtpd.backbones import timm_backbone
from mtpd.distill.adapters import STARTS
from mtpd.distill.detector import build_detector
from mtpd.distill.inherit import inherit
from mtpd.plan import detectors as specs, paths
from mtpd.plan.data_check import inner_datasets
from mtpd.plan.describe import describe_plan
from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.plan import Plan, make_plan
from mtpd.plan.pool import build_pool, common_strides
from mtpd.randomness import isolate_rng
from mtpd.stage.config import stage_config

REPOSITORY = Path(__file__).parents[1]
SUBSET = Path(os.environ.get('MTPD_COCO_SUBSET',
                             REPOSITORY / '../shared/data/coco_subset'))
METAFILES = Path(mmdet.__file__).parent / '.mim/configs'


def is_part(path: Path) -> bool:
    """Whether other configs inherit a file and nobody runs it."""
    return '_base_' in path.parts or path.name in ('dataset.py', 'schedule.py')


FILES = sorted(p.relative_to(REPOSITORY).as_posix()
               for p in (REPOSITORY / 'configs').rglob('*.py'))
EXPERIMENTS = [name for name in FILES if not is_part(Path(name))]
PAPER = [name for name in EXPERIMENTS if name.startswith('configs/paper/')]
ZOO = 'configs/_base_/checkpoints.py'

loaded = lru_cache(maxsize=None)(specs.load_config)  # must not be changed


@pytest.fixture(scope='module', autouse=True)
def _in_the_repository():
    """Paths in configs are relative to the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        yield


@pytest.fixture(scope='module', autouse=True)
def _shared_between_configs():
    """Most configs have the same teachers: their configs and checkpoints are
    read once, their models are built once. No test here changes them."""
    read_file = lru_cache(maxsize=None)(torch.load)
    find_pyramid = timm_backbone.find_pyramid
    pyramids, detectors = {}, {}

    def read_once(*args, **options):
        content = read_file(*args, **options)
        return {**content, 'state_dict': {**content['state_dict']}}

    def find_once(*args):
        if str(args) not in pyramids:
            pyramids[str(args)] = find_pyramid(*args)
        return pyramids[str(args)]

    def build_once(model, checkpoint=None, field='checkpoint'):
        if checkpoint is None:  # gets weights of its own
            return build_detector(model, checkpoint, field)
        key = str(model), checkpoint
        if key not in detectors:
            detectors[key] = build_detector(model, checkpoint, field)
        return detectors[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, 'load_config', loaded)
        patch.setattr(torch, 'load', read_once)
        patch.setattr(timm_backbone, 'find_pyramid', find_once)
        # Only what checks a pool of detectors; a training step builds its own.
        patch.setattr(specs, 'build_detector', build_once)
        yield


def plan_of(name: str) -> Plan:
    cfg = copy.deepcopy(loaded(name))
    cfg.work_dir = 'work_dirs/' + Path(name).stem
    return make_plan(cfg)


# ------------------------------------------------------------ thin detectors


@pytest.fixture(scope='module')
def thin(tmp_path_factory):
    """thin(spec): a detector of the same kind with few channels; if it has a
    checkpoint, one with random weights. Equal models share it."""
    folder, thin_models = tmp_path_factory.mktemp('thin'), {}

    def thin_spec(spec: DetectorSpec) -> DetectorSpec:
        key = str(spec.model)
        if key not in thin_models:
            # Models that are trained from random weights are small already.
            model = spec.model if spec.model.backbone.get('init_cfg', 0) \
                is None else shrunk(spec.model, classes=80)
            path = str(folder / f'{len(thin_models)}.pth')
            with isolate_rng(len(thin_models)):
                detector = build_detector(model)
                detector.init_weights()
                torch.save(dict(state_dict=detector.state_dict()), path)
            thin_models[key] = model, path
        model, path = thin_models[key]
        parts = {**spec.config._cfg_dict, 'model': model}
        parts.pop('data_preprocessor', None)
        return replace(spec, config=Config(parts),
                       checkpoint=spec.checkpoint and path)
    return thin_spec


def thin_plan(plan: Plan, thin) -> Plan:
    return replace(plan, student=thin(plan.student), teachers={
        name: thin(plan.teachers[name]) for name in plan.used})


# ---------------------------------------------------------------- every config


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_its_plan_can_be_made_and_its_detectors_fit_together(name, thin):
    cfg = loaded(name)
    if 'mtpd' not in cfg:
        thin(DetectorSpec('student', cfg, None))
        return
    plan = plan_of(name)
    assert describe_plan(plan).count('\n') >= 9
    plan = thin_plan(plan, thin)
    pool = build_pool(plan)
    assert list(pool) == ['student', *plan.used]
    if plan.order is None:
        assert common_strides(plan, pool)
    if plan.inherit:
        first = plan.order[0][0] if plan.order else plan.used[0]
        inherit(pool['student'].state_dict(), pool[first].state_dict(),
                plan.inherit)


@pytest.mark.parametrize('name', [n for n in FILES if is_part(Path(n))])
def test_a_part_loads_and_sets_no_folder(name):
    assert not loaded(name).get('work_dir')


def test_no_two_configs_write_into_one_folder():
    # Without work_dir, the folder is named after the config.
    stems = [Path(n).stem for n in EXPERIMENTS if not loaded(n).get('work_dir')
             and not n.startswith(('configs/demo/', 'configs/bccd/',
                                   'configs/evidence/'))]
    assert len(stems) == len(set(stems))


# --------------------------------------------------------- checkpoints and APs


@lru_cache
def public() -> dict[str, tuple[str, float]]:
    """URL -> (mmdet:: config, box AP), from mmdet's metafiles."""
    models = {}
    for file in METAFILES.glob('*/metafile.yml'):
        content = yaml.safe_load(file.read_text())
        for model in content if isinstance(content, list) \
                else content.get('Models', []):
            aps = {r['Task']: r.get('Metrics', {}).get('box AP')
                   for r in model.get('Results') or []}
            if model.get('Weights') and aps.get('Object Detection'):
                models[model['Weights']] = (
                    model['Config'].replace('configs/', 'mmdet::', 1),
                    aps['Object Detection'])
    return models


def checkpoints(cfg: Config) -> set[str]:
    """Checkpoints of the student and the teachers, but not of backbones."""
    settings = cfg.get('mtpd', {})
    entries = [settings.get('student', {}),
               *settings.get('teachers', {}).values()]
    return {path for path in (cfg.get('load_from'), *(
        spec.get('checkpoint') for spec in entries)) if path}


@pytest.mark.parametrize('name', loaded(str(REPOSITORY / ZOO)).zoo)
def test_the_zoo_agrees_with_mmdets_metafiles(name):
    entry = loaded(ZOO).zoo[name]
    assert re.fullmatch(
        r'https://download\.openmmlab\.com/mmdetection/v2\.0/'
        r'(?:[\w.+%-]+/){2}[\w.+%-]+-[0-9a-f]{8}\.pth', entry.checkpoint)
    assert public()[entry.checkpoint] == (entry.config, entry.ap)


def test_every_url_is_written_once_and_belongs_to_mmdet():
    texts = {n: (REPOSITORY / n).read_text() for n in FILES}
    for name in EXPERIMENTS:
        for url in checkpoints(loaded(name)):
            if specs.is_url(url):
                assert url in public(), (name, url)
                places = [n for n, text in texts.items() for _ in range(
                    text.count(url.rpartition('/')[2]))]
                assert places == [ZOO], url


def test_every_other_checkpoint_comes_from_a_config():
    """The config STEM of N epochs writes work_dirs/STEM/epoch_N.pth; the
    header lists its command first."""
    for name in PAPER:
        if 'mtpd' not in loaded(name):
            continue
        plan = plan_of(name)
        commands = []
        for spec in (plan.student, *map(plan.teachers.get, plan.used)):
            if not spec.checkpoint or specs.is_url(spec.checkpoint):
                continue
            stem, epoch = re.fullmatch(r'work_dirs/(\w+)/epoch_(\d+)\.pth',
                                       spec.checkpoint).groups()
            maker, = (n for n in PAPER if Path(n).stem == stem)
            assert loaded(maker).train_cfg.max_epochs == int(epoch)
            assert without_scope(loaded(maker).model) == \
                without_scope(spec.config.model)
            commands.append(f'python tools/train.py {maker}')
        assert list(header(name).commands[:len(commands)]) == commands


# ------------------------------------------------ what the experiments contain


LISTING = runpy.run_path(str(REPOSITORY / 'maintain/list_configs.py'))


def header(name: str):
    return LISTING['read_header']((REPOSITORY / name).read_text())


@pytest.mark.parametrize('name', PAPER)
def test_a_config_begins_with_a_complete_header(name):
    lines = header(name)
    assert lines is not None
    assert 'not run by us' in lines.expected
    assert lines.commands[-1] == f'python tools/train.py {name}'
    for command in lines.commands:
        assert command.split()[-1] in EXPERIMENTS


def test_the_table_in_the_docs_matches_the_configs():
    docs = (REPOSITORY / 'docs/configs.md').read_text()
    assert LISTING['table']([Path('configs/paper')], REPOSITORY) in docs, \
        'Replace it by the output of `python maintain/list_configs.py ' \
        'configs/paper`.'


@pytest.mark.parametrize(
    'name', [n for n in PAPER if n.endswith('_direct.py')])
def test_direct_is_the_last_teacher_alone_for_as_many_epochs(name):
    direct, chain = plan_of(name), plan_of(name.replace('_direct', ''))
    long, short = direct.student.config, chain.student.config
    assert direct.order == chain.order[-1:]
    assert long.train_cfg.max_epochs == \
        len(chain.order) * short.train_cfg.max_epochs == 24
    assert long.param_scheduler[1].milestones == [16, 22]
    assert long.param_scheduler[1].end == 24
    assert short.param_scheduler[1].milestones == [8, 11]
    for key in ('optim_wrapper', 'model', 'train_dataloader'):
        assert long[key] == short[key]
    for key in ('distill', 'inherit', 'strides', 'teachers'):
        assert str(getattr(direct, key)) == str(getattr(chain, key))


def test_the_released_settings_of_mgd():
    for name, lr in (('retinanet', .01), ('reppoints', .01),
                     ('mask_rcnn', .02), ('retinanet_swin', .01),
                     ('mask_rcnn_swin', .02)):
        plan = plan_of(f'configs/paper/mechanisms/{name}_mgd.py')
        assert plan.distill == dict(type='MGDLoss')  # weights: its defaults
        assert plan.inherit == ('neck', 'head')
        assert plan.student.checkpoint is None
        wrapper = plan.student.config.optim_wrapper
        assert wrapper.optimizer.type == 'SGD'
        assert wrapper.optimizer.lr == lr
        assert wrapper.clip_grad == dict(max_norm=35, norm_type=2)
        # Mask R-CNN at P2 to P5; RetinaNet and RepPoints at all their levels,
        # P3 to P7.
        assert plan.strides == (
            (4, 8, 16, 32) if 'mask' in name else None)


def test_orders_of_the_paper():
    for name, order in (
            ('retinanet_r50', 'htc detectors'),
            ('mask_rcnn_r50', 'mask_rcnn_detectors detectors'),
            ('mask_rcnn_r18', 'mask_rcnn mask_rcnn_detectors detectors'),
            ('mask_rcnn_r50_quarter', 'half three_quarters full')):
        plan = plan_of(f'configs/paper/feature_matching/{name}_l2.py')
        assert plan.order == tuple((n,) for n in order.split())


def test_the_quarter_times_its_teachers_scales_is_the_full_size():
    plan = plan_of(
        'configs/paper/feature_matching/mask_rcnn_r50_quarter_l2.py')
    cfg = plan.student.config
    for part in ('train', 'val', 'test'):
        scale, = (step.scale for step in
                  cfg[f'{part}_dataloader'].dataset.pipeline
                  if step.type == 'Resize')
        assert scale == (333, 200)
    sizes = [tuple(int(t.scale) * side for side in scale)
             for t in plan.teachers.values()]
    assert sizes == [(666, 400), (999, 600), (1332, 800)]
    assert len({t.checkpoint for t in plan.teachers.values()}) == 1


def without_scope(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_scope(v) for k, v in value.items()
                if k != '_scope_'}
    return [without_scope(v) for v in value] \
        if isinstance(value, (list, tuple)) else value


def test_teacher_v_is_detectors_with_mask_rcnns_head():
    ours, detectors, mask_rcnn = (without_scope(loaded(n).model) for n in (
        'configs/paper/detectors/mask_rcnn_detectors_r50.py',
        'mmdet::detectors/detectors_htc-r50_1x_coco.py',
        'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'))
    for part in ours:
        source = detectors if part in ('backbone', 'neck') else mask_rcnn
        assert ours[part] == source[part]
    assert ours.keys() == mask_rcnn.keys()


@pytest.mark.parametrize('size', 'ts')
def test_retinanet_swin_is_mmdets_retinanet_trained_as_its_mask_rcnn(size):
    ours = loaded(f'configs/paper/detectors/retinanet_swin_{size}.py')
    tiny = loaded('mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py')
    twin = loaded(f'mmdet::swin/mask-rcnn_swin-{size}-p4-w7_fpn_amp-ms-crop-3x'
                  '_coco.py')
    model, expected = without_scope(ours.model), without_scope(tiny.model)
    assert model.pop('backbone') == {
        **without_scope(twin.model.backbone), 'out_indices': [1, 2, 3]}
    expected.pop('backbone')
    assert model == expected
    for key in ('optim_wrapper', 'train_cfg', 'param_scheduler'):
        assert without_scope(ours[key]) == without_scope(twin[key])
    steps = without_scope(ours.train_dataloader.dataset.pipeline)
    assert steps.pop(1) == dict(type='LoadAnnotations', with_bbox=True,
                                with_mask=False)
    expected_steps = without_scope(twin.train_dataloader.dataset.pipeline)
    expected_steps.pop(1)
    assert steps == expected_steps
    assert ours.val_evaluator.metric == ours.test_evaluator.metric == 'bbox'


def test_order_search_falls_linearly_to_zero_in_three_epochs():
    for name in ('retinanet_r50', 'mask_rcnn_r50'):
        cfg = loaded(f'configs/paper/order_search/{name}_3e.py')
        assert cfg.train_cfg.max_epochs == 3
        warm_up, fall = (dict(s) for s in without_scope(cfg.param_scheduler))
        assert (warm_up['by_epoch'], warm_up['end']) == (False, 500)
        assert (fall.pop('type'), fall.pop('convert_to_iter_based')) == \
            ('LinearLR', True)
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.)
        scheduler = LinearLR.build_iter_from_epoch(
            optimizer, **fall, epoch_length=100)
        rates = []
        for _ in range(300):
            rates.append(optimizer.param_groups[0]['lr'])
            optimizer.step()
            scheduler.step()
        assert rates == pytest.approx(
            [1 - i / 299 for i in range(300)], abs=1e-6)


# ---------------------------------------------------------------- a real step


def family(name: str) -> tuple | None:
    """Configs with an equal value need one step only; None without COCO."""
    cfg = loaded(name)
    _, dataset = next(inner_datasets(cfg.train_dataloader.dataset, ''))
    if dataset.get('data_root') != 'data/coco/':
        return None
    settings = cfg.get('mtpd', {})  # without it, plain training
    scaled = any(t.get('scale', 1) != 1
                 for t in settings.get('teachers', {}).values())
    return (cfg.model.type, scaled,
            settings.distill.type if settings else Path(name).parent)


@pytest.mark.skipif(not SUBSET.is_dir(),
                    reason=f'no COCO images in {SUBSET}')
def test_one_of_each_family_takes_a_real_step(thin):
    families: dict[tuple, str] = {}
    for name in EXPERIMENTS:
        families.setdefault(family(name), name)
    families.pop(None, None)
    for name in families.values():
        print(name)  # shown if the test fails
        losses = real_step(name, thin)
        for term, value in losses.items():
            assert torch.isfinite(value).all(), (name, term)
        distilled = [v for k, v in losses.items() if 'loss_distill' in k]
        assert bool(distilled) == ('mtpd' in loaded(name)), name
        assert all(v > 0 for v in distilled), name


def real_step(name: str, thin) -> dict[str, torch.Tensor]:
    """The losses of one step of a config's last stage, or of plain training,
    on one image at two fifths of COCO's size: the thin detectors' convolutions
    would be half of the time."""
    cfg = loaded(name)
    if 'mtpd' in cfg:
        plan = thin_plan(plan_of(name), thin)
        stages = plan.order or ((max(plan.used),),)
        cfg = stage_config(plan, len(stages), stages[-1],
                           thin(replace(plan.student, checkpoint='any')
                                ).checkpoint, {})
        if cfg.model.init_adapters not in (None, *STARTS):
            cfg.model.init_adapters = 'random'  # fitted when a stage starts
    else:
        cfg = thin(DetectorSpec('student', cfg, None)).config
    cfg = copy.deepcopy(cfg)
    annotations, = SUBSET.glob('annotations/*train*.json')
    for _, dataset in inner_datasets(cfg.train_dataloader.dataset, ''):
        dataset.update(data_root=f'{SUBSET}/', ann_file=str(annotations),
                       indices=1)
        for step in dataset.pipeline:
            if step.get('scale') == (1333, 800):
                step.scale = 533, 320
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    dataset.full_init()
    if cfg.optim_wrapper.type == 'AmpOptimWrapper':
        cfg.optim_wrapper.type = 'OptimWrapper'  # the other needs a GPU
    with isolate_rng(0):
        model = MODELS.build(cfg.model)
        model.init_weights()
    model.train()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    student = getattr(model, 'student', model)
    before = copy.deepcopy(student.state_dict())
    losses = model.train_step(pseudo_collate([dataset[0]]), optimizer)
    assert any(not torch.equal(value, before[key])
               for key, value in student.state_dict().items()
               if key.startswith('neck.')), name
    return losses
