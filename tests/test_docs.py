"""What the documentation names is there: files, commands, configs."""
import contextlib
import io
import re
import runpy
import shlex
import sys
from functools import lru_cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = sorted([*REPOSITORY.glob('*.md'), *REPOSITORY.glob('docs/*.md')])
BLOCK = re.compile(r'^```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)
SCRIPT = re.compile(r'(tools|benchmarks|maintain)/\w+\.py')


def by_page(page: Path) -> str:
    return page.name


def headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    text = BLOCK.sub('', page.read_text())
    plain = (re.sub(r'`|\[([^]]*)\]\([^)]*\)', r'\1', title) for title in
             re.findall(r'^#+ (.*)$', text, re.MULTILINE))
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-')
            for title in plain}


@pytest.mark.parametrize('page', PAGES, ids=by_page)
def test_links_lead_somewhere(page):
    text = BLOCK.sub('', page.read_text())
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if re.match(r'\w+:', target):
            continue
        path, _, anchor = target.partition('#')
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f'{page.name}: {target} is not there'
        if anchor:
            assert anchor in headings(file), f'{page.name}: {target}'


def commands(page: Path) -> list[list[str]]:
    """Words of each command for a script of ours, from the script on."""
    text = page.read_text()
    lines = [line for kind, block in BLOCK.findall(text)
             if kind in ('', 'bash', 'sh')
             for line in block.replace('\\\n', ' ').splitlines()]
    lines += [span.replace('\n', ' ') for span in re.findall(
        r'`([^`]+)`', BLOCK.sub('', text))]
    found = []
    for line in lines:
        if not re.match(r'(\$ )?(\w+=\S+ )*(python|torchrun|srun) .*\.py',
                        line):
            continue
        words = shlex.split(line, comments=True)
        at = next((i for i, word in enumerate(words) if SCRIPT.fullmatch(
            word)), None)
        if at is not None:
            found.append(words[at:])
    return found


@pytest.fixture(scope='module')
def help_of():
    """The ``--help`` of a script, run once, in this process."""
    @lru_cache
    def run(script: str) -> str:
        said, path = io.StringIO(), REPOSITORY / script
        with pytest.MonkeyPatch.context() as patch, \
                contextlib.redirect_stdout(said), pytest.raises(SystemExit):
            patch.setattr(sys, 'argv', [script, '--help'])
            patch.syspath_prepend(str(path.parent))
            runpy.run_path(str(path), run_name='__main__')
        return said.getvalue()
    return run


@pytest.mark.parametrize('page', PAGES, ids=by_page)
def test_commands_can_be_given(page, help_of):
    for script, *words in commands(page):
        assert (REPOSITORY / script).exists(), f'{page.name}: {script}'
        flags = {word.split('=')[0] for word in words if re.match(
            '--[a-z]', word)}
        known = set(re.findall(r'(?<!\w)--[\w-]+', help_of(script)))
        assert flags <= known, \
            f'{page.name}: {script} has no {sorted(flags - known)}'
        for word in words:
            if re.match(r'configs/\S+\.py$', word):
                assert list(REPOSITORY.glob(word)), f'{page.name}: {word}'


@pytest.mark.parametrize('page', PAGES, ids=by_page)
def test_make_has_what_is_named(page):
    targets = set(re.findall(r'^([\w-]+):', (
        REPOSITORY / 'Makefile').read_text(), re.MULTILINE))
    named = re.findall(r'(?:^|`)make ([a-z][\w-]*)(?=[`\s])',
                       page.read_text(), re.MULTILINE)
    assert set(named) <= targets


def test_every_tool_has_a_page():
    text = (REPOSITORY / 'docs' / 'tools.md').read_text()
    for tool in (REPOSITORY / 'tools').glob('*.py'):
        if tool.name != 'sizes.py':  # has a page of its own
            assert f'## {tool.name}' in text


def config_blocks(page: Path) -> list[tuple[str, str]]:
    """(name, code) of a page's configs; those that a page names lie beside
    each other when they are read."""
    return [((re.match(r'# (\w+\.py)\n', code) or ('', f'_{i}.py'))[1], code)
            for i, (kind, code) in enumerate(BLOCK.findall(page.read_text()))
            if kind == 'python' and '_base_' in code]


@pytest.mark.parametrize('page', ['quick_start.md', 'migration.md'])
def test_configs_make_plans(page, tmp_path, monkeypatch):
    from mtpd.plan.describe import describe_plan
    from mtpd.plan.detectors import load_config
    from mtpd.plan.plan import make_plan
    blocks = config_blocks(REPOSITORY / 'docs' / page)
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    (tmp_path / 'configs').symlink_to(REPOSITORY / 'configs')
    monkeypatch.chdir(tmp_path)
    plans = []
    for name, code in blocks:
        if 'mtpd = dict' in code:
            cfg = load_config(name)
            cfg.work_dir = 'work'
            plans.append(make_plan(cfg))
            assert describe_plan(plans[-1])
    assert len(plans) == {'quick_start.md': 2, 'migration.md': 3}[page]
    if page == 'quick_start.md':
        own = plans[1].student.config
        assert own.val_evaluator.ann_file.startswith('data/bccd/')
        assert own.test_dataloader.dataset.metainfo.classes[0] == 'RBC'
        assert own.auto_scale_lr.enable


def test_published_numbers_have_a_source():
    """Of a paper or a commit above the rows; ours, in each row."""
    text = (REPOSITORY / 'docs' / 'published.md').read_text()
    paper, others, ours = text.split('\n## ')[1:]
    assert 'arxiv.org/abs/2308.09105' in paper and ' at 42cd287' in paper
    source = None
    for row in rows_of(others):
        if row[0].startswith('**'):
            source = re.search(r'\b(?=\w*\d)[0-9a-f]{7}\b', row[0])
        else:
            assert source and re.fullmatch(
                r'(1x: )?\d\d\.\d > \d\d\.\d', row[-1])
    for row in rows_of(ours):
        assert '.md' in row[-1] or row[-1] == '`make demo`', row


def rows_of(section: str) -> list[list[str]]:
    """The cells of a section's only table, below its head."""
    return [[cell.strip() for cell in line.strip('|').split('|')]
            for line in section.splitlines() if line.startswith('|')][2:]


def test_the_reference_is_that_of_the_docstrings():
    made = runpy.run_path(str(REPOSITORY / 'maintain' / 'make_reference.py'))
    if made['FILE'].read_text() != made['reference']():
        pytest.fail('docs/reference.md is not what the docstrings say any '
                    f'more: run `{made["COMMAND"]}`.')
