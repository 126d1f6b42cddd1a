"""The APs of the student and its teachers beside each other, in words too."""
from typing import Mapping, Sequence

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
        fault = ''
        if detects_nothing(ap):
            fault = 'detects nothing'
        elif is_weaker(ap, student):
            fault = 'weaker than the student'
        remark = ', '.join(filter(None, (remark, fault)))
        rows.append([f'teacher {name}', number(ap) or 'not measured',
                     gain(student, ap), remark])
    return Table('Box AP on the validation set, %',
                 ['', 'box AP', 'minus student', ''], rows)


def is_weaker(teacher: float | None, student: float | None) -> bool:
    """Whether both APs are known and the teacher's is the lower one."""
    return teacher is not None and student is not None and teacher < student


def detects_nothing(ap: float | None) -> bool:
    """Whether an AP is known and shown as 0.0 percent."""
    return ap is not None and ap < 0.05


def weaker_teachers(student: float | None,
                    teachers: Mapping[str, float | None],
                    cures: Mapping[str, str] | None = None) -> list[str]:
    """A warning for each teacher that detects nothing, or is weaker than the
    student: what it means and what to do.

    Args:
        student: As in :func:`ap_table`, and so are ``teachers``.
        cures: Name -> what else to do about a bad detector.
    """
    warnings = []
    for name, ap in teachers.items():
        if detects_nothing(ap):
            meaning = (f'Teacher {name} has {number(ap)} AP: it detects '
                       "nothing on the student's validation set, so there is "
                       'nothing to learn from it.')
        elif is_weaker(ap, student):
            meaning = (
                f'Teacher {name} ({number(ap)} AP) is weaker than the student '
                f'({number(student)} AP), so it can hardly help: a student '
                'that comes closer to its features comes closer to those of '
                'a worse detector.')
        else:
            continue
        cure = (cures or {}).get(name)
        warnings.append(
            f'{meaning} Take mtpd.teachers.{name} out, or put in one that was '
            'trained for longer. If you expected more of it, check that its '
            'config and checkpoint belong together, and that it knows the '
            "student's classes in the same order."
            + (f' {cure}' if cure else ''))
    return warnings


def describe_aps(student: float | None, teachers: Mapping[str, float | None],
                 declared: bool = False,
                 cures: Mapping[str, str] | None = None) -> str:
    """The table of :func:`ap_table`, then the warnings of
    :func:`weaker_teachers`, each on a line."""
    table = ap_table(student, teachers, declared)
    lines = [str(table).rstrip()]
    for warning in weaker_teachers(student, teachers, cures):
        lines.append(f'Warning: {warning}')
    return '\n'.join(lines)


def describe_unknown(names: Sequence[str], mixed: bool, command: str) -> str:
    """That some APs are not known yet, and the command that measures them.

    Args:
        names: Whose AP is not known.
        mixed: Whether some teachers' APs are declared and others' are not.
        command: What to type.
    """
    cure = 'To measure it now:'
    if mixed:
        cure = ('Declare ap for every teacher or for none; then this command '
                'measures it:')
    return (f'The AP of {", ".join(names)} is neither declared nor measured '
            'yet, so it is not known whether each teacher is stronger than '
            f'the student. Training measures it before its first stage. {cure}'
            f'\n{command}')
