"""Which images without labels a step takes."""
import pickle
import shutil

import cv2
import pytest
import torch
from PIL import Image

from mtpd.randomness import seed_everything
from mtpd.data import readable
from mtpd.stage import unlabelled
from mtpd.stage.seeding import KeyedBatches
from mtpd.stage.unlabelled import (CollateApart, UnlabelledKey,
                                   UnlabelledSample, UnlabelledStream)


@pytest.mark.parametrize('count, batch, processes', [
    (11, 3, 1), (10, 4, 2), (3, 8, 2), (1, 2, 1)])
def test_all_images_once_and_then_anew(monkeypatch, count, batch, processes):
    steps = 4 * count
    keys = []
    monkeypatch.setattr(unlabelled, 'get_world_size', lambda: processes)
    streams = []
    for rank in range(processes):
        monkeypatch.setattr(unlabelled, 'get_rank', lambda rank=rank: rank)
        streams.append(UnlabelledStream(range(count), batch, 5, 1))
    for step in range(steps):
        for stream in streams:
            taken = stream.keys(step)
            assert len(taken) == batch
            keys += taken
    orders = set()
    for start in range(0, len(keys) - count + 1, count):
        one_pass = keys[start:start + count]
        assert {key.passes for key in one_pass} == {start // count}
        assert sorted(key.image for key in one_pass) == list(range(count))
        orders.add(tuple(key.image for key in one_pass))
    assert len(orders) > 3 or count <= 3
    # From anywhere, in any order: nothing is remembered.
    fresh = pickle.loads(pickle.dumps(streams[-1]))
    for step in (steps - 1, steps // 2, 0):
        start = (step * processes + processes - 1) * batch
        assert fresh.keys(step) == keys[start:start + batch]
    assert UnlabelledStream(range(9), 9, 5, 2).keys(0) != \
        UnlabelledStream(range(9), 9, 5, 1).keys(0) != \
        UnlabelledStream(range(9), 9, 6, 1).keys(0)


@pytest.mark.parametrize('endless', [False, True])
def test_the_labelled_keys_are_those_of_a_loader_without(endless):
    inner = [[3, 1], [0, 2], [4]]
    stream = UnlabelledStream(range(5), 2, 0, 1)
    batches = KeyedBatches(inner, endless, stream)
    alone = KeyedBatches(inner, endless)
    for one in (batches, alone):
        one.start_from(0 if endless else 2, 1, iteration=7, until=8)
    own, others = iter(batches), iter(alone)
    first, second = next(own), next(own)
    assert [k for k in first if not isinstance(k, UnlabelledKey)] \
        == next(others)
    assert first[2:] == stream.keys(7)
    assert second == next(others)  # iteration 8: no more of them
    assert len(batches) == 3


def test_a_sample_depends_on_its_key_alone():
    class Draws:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return index, torch.rand(())

    stream = UnlabelledStream(Draws(), 2, 0, 1)
    key = UnlabelledKey(3, 2)
    seed_everything(1)
    first = stream.sample(key)
    torch.rand(5)
    assert stream.sample(key) == first and first.content[0] == 2
    assert stream.sample(UnlabelledKey(4, 2)) != first


def test_both_kinds_are_collated_apart():
    collate = CollateApart(lambda samples: dict(inputs=list(samples)))
    assert collate([1, 2]) == dict(inputs=[1, 2])
    assert collate([1, UnlabelledSample(3), 2, UnlabelledSample(4)]) == dict(
        inputs=[1, 2], unlabelled=dict(inputs=[3, 4]))


def test_an_image_that_cannot_be_loaded_is_replaced_by_the_next(
        frames, tmp_path, monkeypatch):
    folder = tmp_path / 'frames'
    shutil.copytree(frames, folder)
    broken = sorted(folder.glob('*.png'))[1]
    broken.write_bytes(b'no image')
    said = []
    monkeypatch.setattr(readable, 'print_log',
                        lambda text, **_: said.append(text))
    steps = [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]
    config = dict(type='UnlabelledImages', data_prefix=dict(img=str(folder)),
                  pipeline=steps)
    stream = UnlabelledStream(config, 2, 0, 1)
    index = [stream._dataset.get_data_info(i)['img_path']
             for i in range(11)].index(str(broken))
    sample = stream.sample(UnlabelledKey(0, index))
    following = stream.sample(UnlabelledKey(0, index + 1))
    assert torch.equal(sample.content['inputs'], following.content['inputs'])
    assert len(said) == 1 and str(broken) in said[0]
    # So is one that a step can make nothing of.
    Image.new('RGB', (2000, 1)).save(broken)
    steps.insert(1, dict(type='Resize', scale=(96, 64), keep_ratio=True))
    stream = UnlabelledStream(config, 2, 0, 1)
    sample = stream.sample(UnlabelledKey(0, index))
    following = stream.sample(UnlabelledKey(0, index + 1))
    assert torch.equal(sample.content['inputs'], following.content['inputs'])
    assert len(said) == 2 and str(broken) in said[1]
    # What it cannot do with any image is an error.
    steps.insert(1, dict(type='RandomCrop', crop_size=(50, 50)))
    steps.insert(1, dict(type='Resize', scale='wrong'))
    with pytest.raises(cv2.error):
        UnlabelledStream(config, 2, 0, 1).sample(UnlabelledKey(0, 0))
    for path in folder.rglob('*.png'):
        path.write_bytes(b'')
    steps[1:4] = []
    with pytest.raises(cv2.error) as error:
        UnlabelledStream(config, 2, 0, 1).sample(UnlabelledKey(0, 0))
    assert 'LoadImageFromFile' in error.value.__notes__[0]
