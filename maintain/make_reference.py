"""Write docs/reference.md: every setting, from its field or its docstring.

    python maintain/make_reference.py

tests/test_docs.py compares the file with what this makes.
"""
import argparse
import inspect
import re
from dataclasses import MISSING, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import mtpd
from mtpd.distill import losses
from mtpd.distill.auto_weight import AutoWeight
from mtpd.distill.inherit import inherit
from mtpd.plan.settings import (CostSettings, FastTeacherSettings,
                                ProgressionSettings, StudentSettings,
                                TeacherSettings, UnlabelledSettings,
                                settings_of)

COMMAND = 'python maintain/make_reference.py'
FILE = Path(__file__).resolve().parent.parent / 'docs' / 'reference.md'


def sections(doc: str | None) -> dict[str, str]:
    """Section -> text of a docstring, '' -> what stands before them.

    A heading such as ``Args:`` stands alone on its line; its text is
    indented below it.
    """
    found: dict[str, list[str]] = {'': []}
    name = ''
    for line in inspect.cleandoc(doc or '').splitlines():
        heading = re.fullmatch(r'(Args|Attributes|Returns|Raises|Source):',
                               line)
        if heading:
            name = heading[1]
            found[name] = []
        else:
            found[name].append(line)
    return {name: inspect.cleandoc('\n'.join(lines)) if name else
            '\n'.join(lines).strip() for name, lines in found.items()}


def entries(section: str) -> dict[str, str]:
    """Name -> text of a section that lists names."""
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        start = re.match(r'(\w+): ?(.*)', line)
        if start:
            name = start[1]
            found[name] = [start[2]]
        else:
            found[name].append(line.strip())
    return {name: _inline(' '.join(lines)) for name, lines in found.items()}


def markdown(text: str) -> str:
    """A docstring's paragraphs, formulas and code as Markdown."""
    made = []
    for block in re.split(r'\n\s*\n(?=\S)', text):
        first, *rest = block.splitlines()
        directive = re.match(r'\.\. (math|code-block):: ?(.*)', first)
        if directive:
            kind = 'math' if directive[1] == 'math' else directive[2]
            body = inspect.cleandoc('\n'.join(
                ([directive[2]] if kind == 'math' else []) + rest)).strip()
            made.append(f'```{kind}\n{body}\n```')
        else:
            made.append(_inline(block))
    return '\n\n'.join(made)


def _inline(text: str) -> str:
    text = re.sub(r':math:`([^`]*)`', r'$\1$', text)
    text = re.sub(r':\w+:`~?([^`]*)`',
                  lambda role: f'`{role[1].split(".")[-1]}`', text)
    return text.replace('``', '`')


def _rule(default: Any) -> str:
    return 'required' if default is MISSING else f'`{default!r}`'


def settings(group: type) -> str:
    """A table with one row per setting of a group, as its fields say."""
    made = ['|setting |form |default |what it does|', '|---|---|---|---|']
    for name, entry in settings_of(group).items():
        default = entry.default
        if entry.default_factory is not MISSING:
            default = entry.default_factory()
        if is_dataclass(default):
            rule = 'those below'
        elif isinstance(default, Fraction):
            rule = f'`{default}`'
        else:
            rule = _rule(default)
        made.append(f'|`{name}` |{entry.metadata["form"].words} |{rule} |'
                    f'{entry.metadata["sentence"]}|')
    return '\n'.join(made)


def described(thing: Any, title: str, without: tuple[str, ...] = (),
              only: tuple[str, ...] | None = None) -> str:
    """A class or function: what it does and what can be set.

    Args:
        thing: It, with a docstring.
        title: The heading.
        without: Arguments that no config sets.
        only: The arguments to list; None lists all others.
    """
    parts = sections(thing.__doc__)
    parameters = inspect.signature(thing).parameters
    made = [f'### {title}', markdown(parts[''])]
    listed = []
    for name, text in entries(parts.get('Args', '')).items():
        if name in without or only is not None and name not in only:
            continue
        default = parameters[name].default if name in parameters \
            else MISSING
        if default is inspect.Parameter.empty:
            default = MISSING
        kind = parameters[name].kind if name in parameters else None
        rule = 'any' if kind is inspect.Parameter.VAR_KEYWORD \
            else _rule(default)
        if name == 'loss_weight':
            rule = _published(thing)
        listed.append(f'- **`{name}`** ({rule}): {text}')
    if listed:
        made.append('\n'.join(listed))
    if 'Source' in parts:
        made.append('Source: ' + ' '.join(
            _inline(parts['Source']).split()))
    return '\n\n'.join(made)


def _published(mechanism: type[losses.Mechanism]) -> str:
    weight = mechanism.published_weight
    return f'{weight[0]:g} one-stage, {weight[1]:g} two-stage' \
        if isinstance(weight, tuple) else f'{weight:g}'


def reference() -> str:
    """The whole page."""
    mechanisms = [one for name in losses.__all__
                  for one in [getattr(losses, name)]
                  if inspect.isclass(one) and one is not losses.Mechanism
                  and issubclass(one, losses.Mechanism)]
    pages = [
        '# Reference',
        f'<!-- Made by `{COMMAND}` from mtpd/plan/settings and the '
        'docstrings. -->',
        'What to choose: [choosing.md](choosing.md). Unknown keys and '
        'impossible values are refused before any work, all together.',
        '## `mtpd`', settings(ProgressionSettings),
        'More: [adapters](mechanisms.md#adapters), [inherit](#inherit), '
        '[fade](mechanisms.md#more), '
        '[not finite](long_runs.md#values-that-are-not-finite).',
        '## `mtpd.student`', settings(StudentSettings),
        '## `mtpd.teachers.NAME`', settings(TeacherSettings),
        '## `mtpd.unlabelled`', settings(UnlabelledSettings),
        '## `mtpd.costs`', settings(CostSettings),
        '## `mtpd.fast_teacher`', settings(FastTeacherSettings),
        '## `mtpd.distill`',
        "`type` is one of the names below, or the import path of a class of "
        "your own (`'my_loss.HuberLoss'`); all other keys are its arguments. "
        "`loss_weight` is a number of at least 0, `None` (the default) for "
        "the published weight, which differs for one-stage and two-stage "
        "students, or `'auto'` or `dict(share=..., iterations=...)`. Losses "
        "are summed over levels unless a mechanism says otherwise.",
        described(AutoWeight, "`loss_weight='auto'`"),
        *(described(one, f'`{one.__name__}`', without=('pairing',))
          for one in mechanisms),
        '### A mechanism of your own: `Mechanism`',
        'Class attributes ([how to write it](mechanisms.md#your-own)):',
        '\n'.join(
            f'- **`{name}`** (`{getattr(losses.Mechanism, name)!r}`): {text}'
            for name, text in entries(sections(
                losses.Mechanism.__doc__)['Attributes']).items()),
        '## Inheriting',
        described(inherit, '`inherit`', only=()),
        '## Backbones',
        'In `model.backbone` of any detector; its neck\'s `in_channels` are '
        'filled in.',
        described(mtpd.backbones.TimmBackbone, '`TimmBackbone`'),
        described(mtpd.backbones.TorchvisionBackbone, '`TorchvisionBackbone`',
                  without=('strides', 'norm_eval', 'init_cfg')),
        'Its `strides`, `norm_eval` and `init_cfg` are as above.']
    return '\n\n'.join(pages) + '\n'


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    FILE.write_text(reference())
    print(f'Written: docs/{FILE.name}')


if __name__ == '__main__':
    main()
