"""Who is stronger than whom, and what it means."""
from mtpd.show.detector_aps import (ap_table, describe_aps, is_weaker,
                                    weaker_teachers)


def rows(table) -> dict[str, list]:
    return {row[0]: list(row[1:]) for row in table.rows}


def test_everybody_is_in_the_table_under_a_plain_name():
    assert rows(ap_table(25.04, {'swin': 30.5, 'old': 22.})) == {
        'student': ['25.0', None, ''],
        'teacher swin': ['30.5', '+5.5', ''],
        'teacher old': ['22.0', '-3.0', 'weaker than the student']}
    assert rows(ap_table(25., {'old': 22.}, declared=True))[
        'teacher old'] == ['22.0', '-3.0', 'declared, weaker than the student']
    assert rows(ap_table(None, {'swin': 30., 'x': None})) == {
        'student': ['not measured', None, ''],
        'teacher swin': ['30.0', None, ''],
        'teacher x': ['not measured', None, '']}


def test_a_weaker_teacher_is_warned_of():
    aps = {'swin': 30.5, 'old': 22., 'equal': 25., 'unknown': None}
    warning, = weaker_teachers(25., aps)
    for words in ('Teacher old (22.0 AP) is weaker than the student (25.0 AP)',
                  'can hardly help', 'Take mtpd.teachers.old out',
                  'config and checkpoint belong together', 'same order'):
        assert words in warning
    assert describe_aps(25., aps).endswith(f'\nWarning: {warning}')
    assert weaker_teachers(None, aps) == []
    assert not is_weaker(25., 25.)
    # A detector at 0 AP is measured, not unknown.
    assert rows(ap_table(0., {'bad': 0.}))['teacher bad'] == ['0.0', '+0.0',
                                                              '']
    assert len(weaker_teachers(1., {'bad': 0.})) == 1
