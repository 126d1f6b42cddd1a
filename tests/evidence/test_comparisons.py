"""The arms of a comparison differ in what is compared, and in nothing else."""
import re
from itertools import permutations
from pathlib import Path

import pytest
from evidence import comparisons
from evidence.design import (ALONE, ARRIVALS, BY_SWIN, CHOICE, DATASETS,
                             EPOCHS, FEW_LABELS, FEWEST, INHERIT, LABEL_ARMS,
                             LABELS, ON_ALL, PILOT_SEED, SHORT, THREE_TIMES,
                             TWO_STAGES, WEIGHT, WITHOUT_ADAPTERS, at_scale,
                             share_of, taught_by, with_mechanism)
from evidence.jobs.arrivals import Arrival
from evidence.jobs.students import Costs, Node, Stage, written_as_pairs
from evidence.results import Evidence
from evidence.jobs.training import changes, config_of, pool_of
from mmdet.registry import MODELS

from mtpd.distill.losses import Mechanism
from mtpd.progression import make_plan

POOL = ('deformable', 'resnext', 'swin', 'two_stage')


def test_all_arms_have_equal_epochs(budget):
    nodes = budget('main')
    assert len(nodes) == 3 * 4
    assert {(len(n.stages), *(s.epochs for s in n.stages))
            for n in nodes} == {(2, EPOCHS, EPOCHS)}
    taught = [tuple(s.teachers for s in n.stages) for n in nodes
              if n.seed == 1]
    assert taught == [((), ()), (('two_stage',), ('two_stage',)),
                      (POOL, POOL), (('resnext',), ('two_stage',))]


def test_all_sequences_form_one_tree_of_64_stages(budget):
    nodes = {n for n in budget('orders') if n.seed == 0 and n.teachers}
    assert {tuple(s.teachers[0] for s in n.stages) for n in nodes} == {
        order for k in range(1, 5) for order in permutations(POOL, k)}
    assert len(nodes) == 64
    assert all(n.before in nodes or not n.before.stages for n in nodes)
    assert {s.epochs for n in nodes for s in n.stages} == {SHORT}


@pytest.mark.parametrize('item', ['pilot', 'mechanisms', 'gaps', 'sweeps'])
def test_every_setting_that_is_compared_can_be_planned(budget, item):
    for node in {(job.student, job.stages[-1].changes): job
                 for job in budget(item, 'full')}.values():
        plan = make_plan(node.config())
        assert plan.order == (node.teachers or (POOL[1],),)
        assert issubclass(MODELS.get(plan.distill['type']), Mechanism)


@pytest.mark.parametrize('item, number', [
    # Of mechanisms, gaps, why and sweeps 3 seeds; the pilot has its own.
    ('pilot', 1 + 4), ('main', 5 * 4), ('orders', 64 + 4 + 4 * (4 + 12 + 2)),
    ('cost', 5 * 4), ('mechanisms', 3 * (5 + 4) * 2),
    ('gaps', 3 * (2 + 2 + 3)), ('why', 3 * 2),
    ('sweeps', 3 * (4 + 4 + 2 + 4 + 4 + 3 + 2 * 12))])
def test_every_job_of_the_full_budget_has_a_name_of_its_own(
        budget, item, number):
    jobs = budget(item, 'full')
    assert len(jobs) == number
    assert len({job.name for job in jobs}) == len(set(jobs)) == number


def test_the_pilot_is_in_no_comparison(budget):
    assert {node.seed for node in budget('pilot', 'full')} == {PILOT_SEED}
    for comparison in comparisons.COMPARISONS.keys() - {'pilot', 'why'}:
        assert PILOT_SEED not in {
            node.seed for node in budget(comparison, 'full')}


@pytest.mark.parametrize('equal, weight', [
    (True, dict(loss_weight=dict(share=.5, iterations=20))), (False, {})])
def test_a_mechanism_is_replaced_as_a_whole(equal, weight):
    for name, settings in (('CWDLoss', {}),
                           ('FeatureL2Loss', dict(normalise=True))):
        node = Node('bccd', 0, (Stage(('swin',), 6, changes=with_mechanism(
            name, equal)),))
        assert node.config().mtpd.distill == dict(
            type=name, **settings, **weight)


def test_other_settings_are_changed_one_by_one():
    node = Node('bccd', 0, (Stage(('swin',), 6, changes=(
        ('distill.loss_weight', 'auto'), ('adapter', 'conv'),
        *at_scale('swin', 1))),))
    mtpd = node.config().mtpd
    assert mtpd.distill == dict(type='FeatureL2Loss', loss_weight='auto',
                                normalise=True)
    assert mtpd.adapter == 'conv'
    assert mtpd.teachers.swin.scale == 1 and mtpd.teachers.resnext.scale == 2


@pytest.mark.parametrize('teachers, weight', [((), 0), (('swin',), None)])
def test_a_stage_restarts_the_rate_and_starts_from_the_node_before(
        teachers, weight):
    node = Node('bccd', 3, (Stage(('resnext',), 8), Stage(teachers, 8)))
    cfg = node.config()
    assert cfg.mtpd.student.checkpoint == node.before.weights
    assert cfg.mtpd.order == [teachers or ('resnext',)]
    if weight is not None:
        assert cfg.mtpd.distill.loss_weight == weight
    assert cfg.randomness.seed == 3
    assert [s.type for s in cfg.param_scheduler] == [
        'LinearLR', 'CosineAnnealingLR']
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].T_max == 8


def test_changes_name_every_difference():
    assert dict(changes({'a': {'b': 1, 'c': 2}, 'd': 3},
                        {'a': {'b': 1, 'c': 4, 'e': 5}})) == {
        'a.c': 4, 'a.e': 5, 'd': None}


def test_before_there_is_an_order_only_the_student_alone_can_be_trained(
        monkeypatch):
    monkeypatch.setattr(Evidence, '__init__', lambda self, dataset:
                        self.__dict__.update(dataset=dataset, costs=None))
    assert list(Evidence('bccd').arms) == ['alone']
    for comparison in ('orders', 'gaps', 'sweeps', 'mechanisms', 'why'):
        assert not list(comparisons.COMPARISONS[comparison]('bccd', (0,)))


@pytest.mark.parametrize('dataset', DATASETS)
def test_constants_match_the_configs(dataset):
    cfg = config_of(dataset)
    assert cfg.mtpd.distill.loss_weight == WEIGHT
    configs = [cfg, *(spec.config for spec in pool_of(dataset).values())]
    channels = {config.model.neck.out_channels for config in configs}
    assert (len(channels) == 1) == (dataset in WITHOUT_ADAPTERS)


@pytest.mark.parametrize('dataset', FEW_LABELS)
def test_the_arms_of_few_labels_differ_in_what_their_names_say(dataset):
    jobs = comparisons.COMPARISONS['labels'](dataset, (0, 1, 2))
    nodes = [job for job in jobs if isinstance(job, Node)]
    students = LABELS[dataset]
    arms = sum(len(LABEL_ARMS[student]) for student in students) \
        + (len(TWO_STAGES) if dataset == 'txl' else 0)
    assert len({node.name for node in nodes}) == 3 * arms
    for student, epochs in students.items():
        cfgs = dict(zip(LABEL_ARMS[student], (
            node.config() for node in nodes
            if node.student == student.removesuffix(THREE_TIMES)
            and node.seed == 1 and len(node.stages) == 1
            and node.stages[0].epochs == epochs), strict=True))
        alone = cfgs.pop(ALONE)
        assert alone.train_cfg.max_epochs == epochs
        assert alone.mtpd.distill.loss_weight == 0
        said = ''
        for name, cfg in cfgs.items():
            # "The same" goes on from the last name that says more.
            said = f'{said}; {name}' if 'the same' in name else name
            found = dict(changes(alone.to_dict(), cfg.to_dict()))
            assert found.pop('work_dir') == cfg.work_dir
            on_all = 'all images' in said
            shares = re.findall(r'share ([\d.]+)', said)
            expected = float(shares[-1]) if shares else 4. if on_all else 1.
            if 'Loss`' in said or 'Sum`' in said:
                found.pop('mtpd.distill.normalise')
                found.pop('mtpd.distill.losses', None)
                kind = found.pop('mtpd.distill.type')
                assert f'`{kind}`' in said
            weight = found.pop('mtpd.distill.loss_weight', 0)
            assert (4. if weight == 'auto' else weight and weight['share']
                    ) == (0 if 'not taught' in said else expected)
            pretrained, swin = 'pretrained' in said, 'Swin' in said
            assert (found.pop('mtpd.inherit', None) is not None) \
                == ('begun' in said or not (pretrained or swin))
            longer = 'for longer' in said or 'this one' in said
            teacher = 'swin' if swin else ('wide_24' if longer else 'wide') \
                if not pretrained else 'pretrained_mobile' \
                if 'Mobile' in said or student.startswith('mobile') \
                else 'pretrained' \
                if student in ('labels_850', 'labels_1000') \
                or 'of all labels' in said \
                else 'pretrained_85'
            assert found.pop('mtpd.order', alone.mtpd.order) == [(teacher,)]
            more = found.pop('mtpd.unlabelled', None)
            assert (more is not None) == on_all
            if more is not None:
                assert Path(more['folder']).parts[-2:] == (
                    alone.data_root.split('/')[-2], 'train')
                assert (more.get('batch_norm') == 'running') \
                    == ('running' in said)
            fade = found.pop('mtpd.fade', None)
            assert (fade is not None) == ('fading' in said)
            if fade is not None:
                early = 'first two thirds' in said
                assert fade == (
                    dict(begin=0, end=epochs * 2 / 3) if early
                    else dict(begin=epochs * 2 / 3, end=epochs))
            assert found == {}


def test_teachers_are_chosen_from_by_costs_and_by_ap():
    """Each teacher of the pool, and the arm that it teaches."""
    # That of MobileNetV2 came later, to another student.
    assert set(CHOICE) == set(pool_of('txl')) - {'pretrained_mobile'}
    for name, arm in CHOICE.items():
        (teachers, changes), = LABEL_ARMS[FEWEST][arm]
        assert teachers == (name,) and changes in ((), INHERIT)
    jobs = comparisons.COMPARISONS['labels']('txl', (0,))
    found = [job for job in jobs if isinstance(job, Costs)]
    assert [job.name for job in found] == [
        'costs_labels_85_unlabelled', 'costs_labels_85_train']
    assert {job.needs[0] for job in found} == {Node(
        'txl', 0, student=FEWEST)}


def test_what_arrives_is_measured_of_runs_that_are_compared():
    for dataset in FEW_LABELS:
        jobs = list(comparisons.COMPARISONS['labels'](dataset, (0, 1, 2)))
        nodes = [job.node for job in jobs if isinstance(job, Arrival)]
        assert len(nodes) == len(ARRIVALS[dataset])
        assert set(nodes) <= set(jobs)
        for node in nodes:
            assert node.seed == 0 and len(node.teachers) == 1


def test_the_arms_of_two_stages_have_equal_controls():
    """As many steps with the same restart, by the same teacher at the end."""
    arms = LABEL_ARMS[FEWEST]
    alone, direct, progression, swin, through_cnn = TWO_STAGES.values()
    assert alone == arms[ALONE] * 2
    assert [teachers for teachers, _ in direct] == [('wide',)] * 2
    assert [teachers for teachers, _ in progression] == [
        ('pretrained_85',), ('wide',)]
    assert arms[ON_ALL] == direct[:1] == progression[1:]
    assert through_cnn[:1] == (taught_by('wide', INHERIT, share_of(4.)),)
    assert swin == 2 * through_cnn[1:] == 2 * arms[BY_SWIN]
    nodes = comparisons.COMPARISONS['labels']('txl', (4,))
    assert {len(node.stages) for node in nodes
            if isinstance(node, Node)} == {1, 2}


def test_changes_are_written_as_pairs():
    assert written_as_pairs((
        ('type', 'WeightedSum'), ('loss_weight', (('share', 4.),)),
        ('losses', ((('type', 'PKDLoss'),),
                    (('type', 'LogitLoss'), ('loss_weight', 2.)))))) == dict(
        type='WeightedSum', loss_weight=dict(share=4.), losses=[
            dict(type='PKDLoss'), dict(type='LogitLoss', loss_weight=2.)])
