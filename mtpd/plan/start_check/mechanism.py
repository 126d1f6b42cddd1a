"""Everything that is wrong with ``mtpd.distill``, without a teacher."""
from typing import Any, Mapping

from mtpd.distill.auto_weight import AutoWeight, split_auto
from mtpd.distill.losses import known_mechanisms
from mtpd.distill.losses.mechanism import (mechanism_class,
                                           meant_mechanism)
from mtpd.plan.errors import did_you_mean
from mtpd.plan.registered import unknown_keywords, wrong_values
from mtpd.plan.settings import is_number


def mechanism_problems(distill: Mapping[str, Any]) -> list[str]:
    """Unknown types and keywords and values of another kind, of a mechanism
    and of the terms of a sum, one message each."""
    terms = distill.get('losses')
    mechanism = {**distill, 'losses': None}  # the terms are looked at below
    problems = []
    try:
        mechanism, auto = split_auto(mechanism)
        if auto is not None:
            AutoWeight(**auto)
    except (TypeError, ValueError) as error:
        problems.append(str(error))
        mechanism.pop('loss_weight', None)
    if terms is None:
        del mechanism['losses']
    else:
        mechanism['losses'] = terms
    return problems + _problems_of(mechanism, 'mtpd.distill')


def _problems_of(mechanism: Mapping[str, Any], field: str) -> list[str]:
    kind = mechanism.get('type')
    known = known_mechanisms()
    if isinstance(kind, str) and '.' not in kind and kind not in known:
        return [f'{field}.type {kind!r} is not known'
                + did_you_mean(kind, known, quote=True)]
    try:
        found = mechanism_class(kind)
    except ValueError as error:
        return [str(error)]
    problems = unknown_keywords(found, mechanism, field,
                                given_later=('pairing',))
    if found.__module__.startswith('mtpd.'):  # annotations that mypy checks
        problems += wrong_values(found, mechanism, field)
    weight = mechanism.get('loss_weight')
    if weight is not None and is_number(weight) and weight < 0:
        problems.append(f'{field}.loss_weight is {weight}; it has to be at '
                        'least 0.')
    if found.__name__ == 'WeightedSum':
        problems += _problems_of_terms(mechanism.get('losses'), field)
    return problems


def _problems_of_terms(terms: Any, field: str) -> list[str]:
    if not isinstance(terms, (list, tuple)) or not terms:
        return [f'{field}.losses is {terms!r}; it has to list at least one '
                "mechanism, such as [dict(type='PKDLoss')]."]
    problems = []
    for index, term in enumerate(terms):
        name = f'{field}.losses[{index}]'
        if not isinstance(term, Mapping):
            problems.append(f'{name} is {term!r}; it has to be a mechanism, '
                            "such as dict(type='PKDLoss') "
                            f'({meant_mechanism(term)}).')
        elif term.get('loss_weight') == 'auto' \
                or isinstance(term.get('loss_weight'), Mapping):
            problems.append(f'{name}.loss_weight: the automatic weight is '
                            'that of the whole sum. Set mtpd.distill.'
                            "loss_weight='auto' and a number here.")
            problems += _problems_of({**term, 'loss_weight': None}, name)
        else:
            problems += _problems_of(term, name)
    return problems
