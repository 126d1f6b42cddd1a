"""Who is stronger than whom, and what it means."""
from mtpd.show.detector_aps import (ap_table, describe_aps, describe_unknown,
                                    is_weaker, weaker_teachers)


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
    assert rows(ap_table(0., {'bad': 0.}, declared=True))['teacher bad'] == [
        '0.0', '+0.0', 'declared, detects nothing']


def test_a_teacher_that_detects_nothing_is_warned_of_beside_any_student():
    for student in (None, 0., 0.03, 20.):
        warning, = weaker_teachers(student, {'bad': 0.04, 'good': 30.,
                                             'unknown': None})
        assert warning.startswith('Teacher bad has 0.0 AP: it detects nothing')
        assert 'Take mtpd.teachers.bad out' in warning
    assert weaker_teachers(None, {'poor': 0.05}) == []
    both = weaker_teachers(9., {'bad': 0., 'old': 8.}, {'bad': 'Do x.'})
    assert both[0].endswith('same order. Do x.')
    assert both[1].endswith('same order.')


def test_unknown_aps_name_the_command():
    told = describe_unknown(['student', 'b'], False, 'python x.py')
    assert told.startswith('The AP of student, b is neither declared nor '
                           'measured yet')
    assert told.splitlines()[-1] == 'python x.py'
    assert 'for every teacher or for none' not in told
    assert 'for every teacher or for none' in describe_unknown(
        ['b'], True, 'python x.py')
