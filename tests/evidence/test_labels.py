"""The section about few labels: what it says of costs, against values by
hand."""
import json
from dataclasses import asdict

import pytest
from evidence import store
from evidence.comparisons import label_node
from evidence.design import ALONE, CHOICE, FEWEST, LABEL_ARMS, SPLITS
from evidence.report import labels
from evidence.results import Evidence

from mtpd.order.costs import AdaptationCosts

GAIN = {'wide_24': 9., 'wide': 8., 'pretrained': 3., 'pretrained_85': 2.,
        'swin': 5.}
AP = {'wide_24': 62., 'wide': 56., 'pretrained': 61., 'pretrained_85': 51.,
      'swin': 60.}
# The ranks of the gains, and one that puts swin first.
SHARE = {'unlabelled': {'wide_24': .1, 'wide': .2, 'swin': .3,
                        'pretrained': .4, 'pretrained_85': .5},
         'train': {'swin': .1, 'wide_24': .2, 'wide': .3, 'pretrained': .4,
                   'pretrained_85': .5}}


@pytest.fixture
def txl(tmp_path, monkeypatch) -> Evidence:
    results = {}
    for split in SPLITS:
        costs = AdaptationCosts.from_dicts(
            ('student', *AP), (8,), {
                ('student', name): {8: 4 * share}
                for name, share in SHARE[split].items()},
            {name: {8: 4.} for name in AP}, {8: 10})
        results[f'costs_{FEWEST}_{split}'] = dict(aps=AP,
                                                  costs=costs.to_json())
    arms = {ALONE: 0., **{arm: GAIN[name] for name, arm in CHOICE.items()}}
    for seed in range(3):
        for arm, gain in arms.items():
            node = label_node('txl', seed, FEWEST, LABEL_ARMS[FEWEST][arm])
            results[node.name] = dict(node=asdict(node), name=node.name,
                                      AP=40. + seed + gain)
    monkeypatch.setattr(store, 'FOLDER', tmp_path)
    (tmp_path / 'txl.jsonl').write_text(''.join(
        json.dumps(dict(job=job, **result)) + '\n'
        for job, result in results.items()))
    return Evidence('txl')


def test_rules_that_choose_a_teacher_are_compared(txl):
    text = labels._choice(txl, 'txl')
    rows = [line.strip('|').split('|') for line in text.splitlines()
            if line.startswith('|')][2:]
    assert [[cell.strip() for cell in row] for row in rows[:5]] == [
        ['wide_24', '62.0', '0.100', '0.200', '**+9.0±0.1**'],
        ['wide', '56.0', '0.200', '0.300', '**+8.0±0.1**'],
        ['swin', '60.0', '0.300', '0.100', '**+5.0±0.1**'],
        ['pretrained', '61.0', '0.400', '0.400', '**+3.0±0.1**'],
        ['pretrained_85', '51.0', '0.500', '0.500', '**+2.0±0.1**']]
    # Ranks of the APs against those of the gains: distances 0, 2, 0, 2, 0;
    # of 120 rankings 2 are as far from 0 as +1 is, 42 as +0.6, 28 as +0.7.
    assert [[cell.strip() for cell in row] for row in rows[7:]] == [
        ['the highest AP', 'wide_24', '+0.60 (0.35)'],
        ['the smallest cost on all images', 'wide_24', '+1.00 (0.02)'],
        ['the smallest on those with labels', 'swin', '+0.70 (0.23)']]


def test_without_all_costs_or_arms_nothing_is_said(txl):
    one = dict(txl.choices)
    one.popitem()
    txl.choices = one
    assert labels._choice(txl, 'txl') == ''
