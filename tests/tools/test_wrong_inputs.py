"""What people hand to a tool by mistake ends with a message."""
import ast
import io
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

# Tool -> its arguments, where PATH stands for what is handed over.
TOOLS = {
    'analyze': ['PATH', 'PATH', '--out', 'out'],
    'bgs_order': ['PATH'],
    'compress': ['PATH', 'PATH', '--width', '0.5'],
    'compress --compare': ['--compare', 'PATH', 'PATH'],
    'draw_shapes': ['PATH'],
    'export_onnx': ['PATH', 'PATH', '--out', 'out.onnx'],
    'export_student': ['PATH', '--out', 'out.pth'],
    'from_scratch': ['PATH'],
    'get_weights': ['efficientnet-lite0', '--file', 'PATH', '--out', 'out'],
    'pack': ['PATH', '--bits', '6'],
    'predict': ['PATH', 'PATH', 'PATH'],
    'report': ['PATH'],
    'sizes': ['PATH', '--rounds', '1'],
    'test': ['PATH', 'PATH'],
    'train': ['PATH', '--dry-run'],
    'voc_to_coco': ['PATH', '--out', 'out']}
MAINTAINERS = {'list_configs': ['PATH']}


def run(repository, folder, name, words, monkeypatch) -> tuple:
    """(exit code, all that it printed); any other exception is a failure."""
    said = io.StringIO()
    path = repository / folder / f'{name.split()[0]}.py'
    with monkeypatch.context() as patch, redirect_stdout(said), \
            redirect_stderr(said):
        patch.setattr(sys, 'argv', [str(path), *map(str, words)])
        patch.setattr(sys, 'path', list(sys.path))
        try:
            runpy.run_path(str(path), run_name='__main__')
        except SystemExit as stop:
            if isinstance(stop.code, str):
                return 1, said.getvalue() + stop.code
            return stop.code or 0, said.getvalue()
    return 0, said.getvalue()


def test_every_tool_is_tried(repository):
    assert {path.stem for path in (repository / 'tools').glob('*.py')} == {
        *(name.split()[0] for name in TOOLS),
        'doctor'}  # which takes none


@pytest.mark.parametrize('name', [*TOOLS, *MAINTAINERS])
def test_wrong_inputs_end_with_a_message(name, repository, tmp_path,
                                         monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'a folder'
    folder.mkdir()
    other = folder / 'a file.txt'
    other.write_text('no config')
    plain = folder / 'no mtpd.py'
    plain.write_text("classes = ('disc',)\n")
    root, words = ('tools', TOOLS[name]) if name in TOOLS else \
        ('maintain', MAINTAINERS[name])

    code, said = run(repository, root, name, [], monkeypatch)
    if name == 'bgs_order':  # takes a config or --from
        assert code == 1 and 'Name a config, or a saved order' in said
    else:
        assert code == 2 and 'arguments are required' in said
    for path in ('gone.py', tmp_path / 'gone too.py', 'a folder', folder,
                 other.relative_to(tmp_path), other,
                 plain.relative_to(tmp_path), plain):
        if name == 'train' and path in (plain, plain.relative_to(tmp_path)):
            continue  # a config without mtpd is trained as it is
        code, said = run(repository, root, name, [
            path if word == 'PATH' else word for word in words], monkeypatch)
        assert code not in (0, None), (path, said)
        last = said.strip().splitlines()[-1]
        assert 'Traceback' not in said, (path, said)
        assert str(path).split('/')[-1] in said, (path, said)
        assert len(last) > 20, (path, said)
    assert not list(tmp_path.glob('out*'))


@pytest.mark.parametrize('words', [
    'export_student a.pth --out', 'report folder --out',
    'sizes a.py --markdown', 'test a.py a.pth --out',
    'test a.py a.pth --show-dir', 'get_weights efficientnet-lite0 --out'])
def test_where_nothing_can_be_written_is_told_before_the_work(
        words, repository, tmp_path, monkeypatch):
    """None of these files can be read: it would be told instead."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder').mkdir()
    for name in ('a.py', 'a.pth', 'file'):
        (tmp_path / name).write_text('(')
    name, *flags = words.split()
    paths = ['file/x.pkl']
    if flags[-1] in ('--out', '--markdown') and name != 'get_weights':
        paths.append('folder')
    for path in paths:
        code, said = run(repository, 'tools', name, [*flags, path],
                         monkeypatch)
        wrong = 'is a folder. Name a file.' if path == 'folder' else \
            f'cannot be written, because {tmp_path}/file is no folder.'
        assert code == 1 and f'{flags[-1]} ' in said and wrong in said


@pytest.mark.parametrize('name', [*TOOLS, *MAINTAINERS, 'doctor',
                                  'make_reference'])
def test_help_keeps_the_line_breaks_of_the_docstring(name, repository,
                                                     monkeypatch):
    root = 'maintain' if name in (*MAINTAINERS, 'make_reference') else 'tools'
    code, said = run(repository, root, name, ['--help'], monkeypatch)
    file = repository / root / f'{name.split()[0]}.py'
    docstring = ast.get_docstring(ast.parse(file.read_text()), clean=False)
    assert code == 0
    if name == 'bgs_order':  # adds how many images each level needs
        docstring = docstring.split('\n\n')[0]
    assert docstring.strip() in said


def test_a_config_named_like_the_package_is_taken_with_a_warning(
        repository, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr('mtpd.command_line.print_log',
                        lambda text, *_: lines.append(text))
    for name in ('mtpd.py', 'my_mtpd.py'):
        path = tmp_path / name
        path.write_text("model = dict(type='RetinaNet')\n")
        code, said = run(repository, 'tools', 'train', [path, '--dry-run'],
                         monkeypatch)
        assert code == 0 and 'plain mmdet training' in said
    line, = lines
    assert line.startswith(f'{tmp_path}/mtpd.py has the name of the package')
    assert 'Rename it' in line


@pytest.mark.parametrize('content', [b"_base_ = './student.py'\n",
                                     b'PK\x03\x04\xff\xfe'])
def test_costs_that_are_no_json(repository, tmp_path, monkeypatch, content):
    other = tmp_path / 'other.py'
    other.write_bytes(content)
    code, said = run(repository, 'tools', 'bgs_order', [
        '--from', other, '--out', tmp_path / 'out'], monkeypatch)
    assert code == 1 and f'--from: {other} is no JSON (' in said
    assert said.strip().endswith(
        'Name an order.json, as this tool writes it.')
    assert not (tmp_path / 'out').exists()
