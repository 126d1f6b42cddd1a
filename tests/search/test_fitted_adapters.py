"""The linear maps that adapters start from, with and without built
teachers."""
import pytest
import torch

from mtpd.plan.detectors import DetectorSpec
from mtpd.plan.pool import build_pool
from mtpd.progression import make_plan
from mtpd.search.fitted_adapters import fitted_maps


def test_built_teachers_are_used_and_the_student_left_as_found(toy,
                                                               monkeypatch):
    plan = make_plan(toy(strides=(8,)))
    pool = build_pool(plan)
    student = pool.pop('student').train().requires_grad_(True)
    built = fitted_maps(plan, student, ('wide', 'swin'))
    assert student.training and all(
        parameter.requires_grad for parameter in student.parameters())

    def refuse(self):
        raise AssertionError(f'{self.name} is read again')

    monkeypatch.setattr(DetectorSpec, 'build', refuse)
    given = fitted_maps(plan, student, ('wide', 'swin'), pool)
    assert list(given) == ['wide', 'swin']
    for name, levels in given.items():
        assert list(levels) == [8]
        for key, value in levels[8].items():
            assert torch.equal(value, built[name][8][key])
        assert not any(p.requires_grad for p in pool[name].parameters())
    with pytest.raises(AssertionError, match='swin is read again'):
        fitted_maps(plan, student, ('wide', 'swin'), {'wide': pool['wide']})
