"""docs/compress.md: its figures are those of the results."""
import json
import re
from statistics import fmean

import pytest
from evidence import store
from evidence.design import DATASETS
from evidence.jobs.students import Node
from evidence.report import small


def test_the_page_is_what_the_results_say():
    page = small.PAGE.read_text()
    assert page.endswith(small.MARK + small.compose())
    text = page.split(small.MARK)[1]
    results = small.finished('bccd')
    half = [one['AP'] for one in results if one['arm'] == 'distilled'
            and small.kind_of(one) == 'w50']
    by_seed = ', '.join(f'{ap:.1f}' for ap in half)
    assert f'|taught by the original, share 4 |{by_seed} |' \
        f'{fmean(half):.1f} |' in text


def test_every_job_has_a_row(tmp_path, monkeypatch):
    """APs by hand: 30 + the number of its arm's row, plus the seed."""
    originals = {Node('bccd', seed).name: {'AP': 40. + seed}
                 for seed in range(3)}
    results = {}
    for seed in range(3):
        for kind in small.KINDS:
            for row, arm in enumerate(small.ARMS):
                width = re.fullmatch(r'w(\d+)', kind)
                results[f'seed{seed}_{kind}_{arm}'] = {
                    'arm': arm, 'seed': seed, 'AP': 30. + row + seed,
                    'width': int(width[1]) / 100 if width else 1.,
                    'layers': None if width else kind, 'bytes': {},
                    'parameters': {'original': 200, 'slice': 52}}
    names = {'onnx32': 'distilled_onnx32', 'onnx8': 'distilled_onnx8',
             'packed6': 'distilled_packed6', 'packed4': 'distilled_packed4'}
    for name, content in (('bccd', originals), ('bccd_slices', {
            job.replace(result['arm'], names.get(result['arm'],
                                                 result['arm'])): result
            for job, result in results.items()})):
        (tmp_path / f'{name}.jsonl').write_text(''.join(
            json.dumps({'job': job, **values}) + '\n'
            for job, values in content.items()))
    monkeypatch.setattr(store, 'FOLDER', tmp_path)
    text = small.compose()
    assert DATASETS['bccd'] in text and '**txl**' not in text
    assert 'AP 40.0, 41.0, 42.0' in text
    sections = text.split('\n|**')[1:]
    assert [section.split(',')[0] for section in sections] == [
        title.split(',')[0] for title in small.KINDS.values()]
    assert all(', 26% of the parameters' in section for section in sections)
    rows = {line.split('|')[1].strip(): [
        cell.strip() for cell in line.split('|')[2:-1]]
        for line in sections[1].splitlines()[1:] if line.startswith('|')}
    assert rows['from random weights'] == [
        '31.0, 32.0, 33.0', '32.0', '**-9.0±0.1**', '', '']
    assert rows['taught by the original'] == [
        '33.0, 34.0, 35.0', '34.0', '**-7.0±0.1**', '**+2.0±0.1**',
        '**+1.0±0.1**']
    others = {'alone_longer', 'share1_longer', 'scores', 'scores_and_maps',
              'share1_fading'}  # on the other data set
    assert rows.keys() == {title for arm, title in small.ARMS.items()
                           if arm not in others}


@pytest.mark.parametrize('arm, controls', [
    ('sliced', ('', '')), ('scratch', ('', '')), ('alone', ('scratch', '')),
    ('distilled', ('scratch', 'alone')), ('share1', ('scratch', 'alone')),
    ('alone_longer', ('', '')), ('share1_longer', ('', 'alone_longer')),
    ('onnx8', ('', ''))])
def test_an_arm_is_compared_with_what_was_trained_for_as_long(arm, controls):
    assert small.controls_of(arm) == controls


@pytest.mark.parametrize('sizes, text', [
    ({'student.onnx': 543_997, 'student.pth': 9}, ' (544 KB)'),
    ({'compressed': 222_100, 'plain': 600_000}, ' (222 KB)'), ({}, '')])
def test_a_file_has_its_size(sizes, text):
    assert small._size({0: {'bytes': sizes}}) == text
    seen = small._size({seed: {'bytes': sizes, 'AP_of_detector': 38. + seed}
                        for seed in range(2)})
    assert seen == text.replace(')', '; mmdet image by image 38.5)')
