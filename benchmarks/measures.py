"""Measure the code of mtpd/: how large, how deep, how dense its parts are.

    python benchmarks/measures.py [--check] [FOLDER]

Prints each measure with its limit and the places that come closest to it.
With --check it exits with 1 if a limit is passed; `make lint` runs this.

- files in a folder, with __init__.py; lines of a file; lines of a function
  without its docstring; its parameters without self and cls.
  compat/operators.py does not count here: it is a table of operators with
  mmcv's signatures, in one file that can be loaded alone;
- complexity of each function and method as radon counts it: boolean operators,
  conditional expressions and comprehensions count too;
- statements with more than 60 nodes of the syntax tree, statements nested in
  them not counted, and comprehensions, both per 100 statements; imports,
  definitions and docstrings are no statements here;
- private functions that are used once in their file, per 100 functions.
"""
import argparse
import ast
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from radon.complexity import cc_visit

REPOSITORY = Path(__file__).resolve().parent.parent
LARGE = 60
TABLE = 'compat/operators.py'
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Measure:
    """One line of the table.

    Attributes:
        name: What is measured.
        value: The present value.
        limit: The largest value allowed.
        places: Where it is largest.
    """
    name: str
    value: float
    limit: float
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        mark = '' if self.value <= self.limit else '  TOO LARGE'
        text = f'{self.name:44}{self.value:8.4g}{self.limit:8.4g}{mark}'
        return '\n'.join([text, *(f'    {place}' for place in self.places)])


class Code:
    """The parsed files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.trees: dict[str, ast.Module] = {}
        self.texts: dict[str, str] = {}
        for path in sorted(folder.rglob('*.py')):
            name = path.relative_to(folder.parent).as_posix()
            self.texts[name] = path.read_text()
            self.trees[name] = ast.parse(self.texts[name])

    def functions(self) -> Iterator[tuple[str, ast.FunctionDef]]:
        for name, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef):
                    yield f'{name}:{node.lineno} {node.name}', node

    def statements(self) -> Iterator[tuple[str, ast.stmt]]:
        for name, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.stmt) and not _is_no_statement(node):
                    yield f'{name}:{node.lineno}', node


def _is_no_statement(node: ast.stmt) -> bool:
    docstring = isinstance(node, ast.Expr) \
        and isinstance(node.value, ast.Constant) \
        and isinstance(node.value.value, str)
    return docstring or isinstance(
        node, (ast.Import, ast.ImportFrom, *DEFINITIONS))


def _nodes(node: ast.AST) -> int:
    """Nodes of a statement, without the statements inside."""
    inner = [child for child in ast.iter_child_nodes(node)
             if not isinstance(child, (ast.stmt, ast.ExceptHandler))]
    return 1 + sum(map(_nodes, inner))


def _largest(name: str, values: dict[str, float], limit: float) -> Measure:
    places = sorted(values, key=values.__getitem__, reverse=True)[:3]
    return Measure(name, max(values.values()), limit, tuple(
        f'{values[place]:.4g} {place}' for place in places))


def measures(code: Code) -> list[Measure]:
    """All of them."""
    folders = Counter(str(Path(name).parent) for name in code.trees)
    lines = {name: len(text.splitlines()) for name, text in code.texts.items()
             if not name.endswith(TABLE)}
    lengths, parameters = {}, {}
    functions = list(code.functions())
    for place, node in functions:
        if TABLE in place:
            continue
        lengths[place] = node.end_lineno - node.lineno + 1
        if ast.get_docstring(node) is not None:
            docstring = node.body[0]
            lengths[place] -= docstring.end_lineno - docstring.lineno + 1
        names = [argument.arg for argument in (
            *node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        parameters[place] = len([n for n in names if n not in ('self', 'cls')])
    complexities = _complexities(code)
    values = list(complexities.values())
    sizes = {place: _nodes(node) for place, node in code.statements()}
    comprehensions = sum(isinstance(node, COMPREHENSIONS)
                         for tree in code.trees.values()
                         for node in ast.walk(tree))
    large = [place for place, size in sizes.items() if size > LARGE]
    once = _used_once(code)
    return [
        _largest('files in a folder', dict(folders), 12),
        _largest('lines of a file', lines, 350),
        _largest('lines of a function', lengths, 60),
        _largest('parameters of a function', parameters, 11),
        Measure('complexity, mean', sum(values) / len(values), 3.95),
        _largest('complexity, maximum', complexities, 12),
        Measure(f'statements of more than {LARGE} nodes, %',
                100 * len(large) / len(sizes), .3, tuple(large[:5])),
        Measure('comprehensions per 100 statements',
                100 * comprehensions / len(sizes), 6),
        Measure('private functions used once, %',
                100 * len(once) / len(functions), 17.5)]


def _complexities(code: Code) -> dict[str, float]:
    found = {}
    for name, text in code.texts.items():
        for block in cc_visit(text):
            for one in (block, *getattr(block, 'methods', ()),
                        *getattr(block, 'closures', ())):
                if not hasattr(one, 'methods'):
                    found[f'{name}:{one.lineno} {one.name}'] = one.complexity
    return found


def _used_once(code: Code) -> list[str]:
    once = []
    for name, tree in code.trees.items():
        uses: Counter[str] = Counter()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                uses[node.id] += 1
            elif isinstance(node, ast.Attribute):
                uses[node.attr] += 1
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and uses[node.name] == 1 \
                    and node.name.startswith('_') \
                    and not node.name.startswith('__'):
                once.append(f'{name}:{node.lineno} {node.name}')
    return once


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', nargs='?', type=Path,
                        default=REPOSITORY / 'mtpd')
    parser.add_argument('--check', action='store_true',
                        help='print only what passes its limit, and fail')
    args = parser.parse_args()
    table = measures(Code(args.folder.resolve()))
    wrong = [measure for measure in table if measure.value > measure.limit]
    if not args.check:
        print(f'{"":44}{"value":>8}{"limit":>8}')
    for measure in wrong if args.check else table:
        print(measure)
    if args.check:
        sys.exit(bool(wrong))


if __name__ == '__main__':
    main()
