"""The APs of the student and its teachers beside each other, in words too."""
from typing import Mapping

from .tables import Table, gain, number


def ap_table(student: float | None, teachers: Mapping[str, float | None],
             declared: bool = False) -> Table:
    """Everybody's box AP.

    Args:
        student: In percent; None where it is not known.
        teachers: Name -> AP in percent; None where it is not known.
        declared: Whether the teachers' are the config's, and were not
            measured.
    """
    rows: list[list[str | None]] = [
        ['student', number(student) or 'not measured', None, '']]
    for name, ap in teachers.items():
        remark = 'declared' if declared else ''
        if is_weaker(ap, student):
            remark = ', '.join(filter(None, (remark, 'weaker than the '
                                             'student')))
        rows.append([f'teacher {name}', number(ap) or 'not measured',
                     gain(student, ap), remark])
    return Table('Box AP on the validation set, %',
                 ['', 'box AP', 'minus student', ''], rows)


def is_weaker(teacher: float | None, student: float | None) -> bool:
    """Whether both APs are known and the teacher's is the lower one."""
    return teacher is not None and student is not None and teacher < student


def weaker_teachers(student: float | None,
                    teachers: Mapping[str, float | None]) -> list[str]:
    """A warning for each teacher that is weaker than the student: what it
    means and what to do.

    Args:
        student: As in :func:`ap_table`, and so are ``teachers``.
    """
    warnings = []
    for name, ap in teachers.items():
        if is_weaker(ap, student):
            warnings.append(
                f'Teacher {name} ({number(ap)} AP) is weaker than the student '
                f'({number(student)} AP), so it can hardly help: a student '
                'that comes closer to its features comes closer to those of '
                f'a worse detector. Take mtpd.teachers.{name} out, or put in '
                'one that was trained for longer. If you expected more of '
                'it, check that its config and checkpoint belong together, '
                "and that it knows the student's classes in the same order.")
    return warnings


def describe_aps(student: float | None, teachers: Mapping[str, float | None],
                 declared: bool = False) -> str:
    """The table of :func:`ap_table`, then the warnings, each on a line."""
    table = ap_table(student, teachers, declared)
    lines = [str(table).rstrip()]
    for warning in weaker_teachers(student, teachers):
        lines.append(f'Warning: {warning}')
    return '\n'.join(lines)
