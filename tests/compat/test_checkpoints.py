"""mmengine's own checkpoints load, and a pickle can ask for nothing else."""
import builtins
import hashlib
import http.server
import os
import pickle
import threading
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint

from mtpd.compat import checkpoints
from mtpd.compat.checkpoints import (CheckpointUnavailable, CorruptCheckpoint,
                                     UnsafeCheckpoint, checkpoint_hash,
                                     fetch_checkpoint, install_safe_loading,
                                     read_checkpoint)
from mtpd.compat.pickled_types import allow_mmengine_types


@pytest.fixture(autouse=True)
def safe_loading():
    install_safe_loading()


# ----------------------------------------------------- mmengine's checkpoints


class Line(BaseModel):
    """y = a x + b, fitted to y = x."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        y = self.layer(torch.stack(inputs))
        if mode == 'loss':
            return dict(loss=(y - torch.stack(inputs)).square().mean())
        return [y]


class Closeness(BaseMetric):
    """A numpy scalar, as pycocotools' averages are, that grows by epoch."""
    values = iter(())

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(score=np.float64(next(self.values)))


def runner(work_dir, epochs, values, **kwargs) -> Runner:
    metric = Closeness()
    metric.values = iter(values)
    loader = dict(
        dataset=[dict(inputs=torch.full((1, ), i / 8)) for i in range(8)],
        batch_size=4,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'))
    return Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        val_cfg=dict(),
        val_evaluator=Evaluator(metric),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
            dict(type='MultiStepLR', milestones=[1], by_epoch=True)
        ],
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook',
                interval=1,
                save_best='score',
                rule='greater')),
        log_level='ERROR',
        experiment_name=f'{work_dir.name}_{epochs}',
        **kwargs)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Folder of a run of two epochs, the first of which scored best."""
    work_dir = tmp_path_factory.mktemp('trained')
    runner(work_dir, 2, [0.75, 0.5]).train()
    return work_dir


def test_mmengines_own_checkpoint_is_read(trained):
    content = read_checkpoint(str(trained / 'epoch_2.pth'))
    assert content['meta']['epoch'] == 2
    assert {'state_dict', 'optimizer', 'param_schedulers'} <= set(content)
    hub = content['message_hub']
    assert hub['runtime_info']['best_score'] == 0.75
    assert type(hub['runtime_info']['best_score']) is np.float64
    losses = hub['log_scalars']['train/loss']
    assert type(losses) is HistoryBuffer
    history, counts = losses.data
    assert type(history) is np.ndarray and history.dtype == np.float64
    assert len(history) == len(counts) == 4 and np.isfinite(history).all()
    assert losses.statistics('min') == history.min()
    assert losses.mean() == pytest.approx(history.mean())


def test_run_resumes_with_its_best_score(trained, tmp_path):
    resumed = runner(
        tmp_path, 3, [0.6], load_from=str(trained / 'epoch_2.pth'),
        resume=True)
    resumed.train()
    assert resumed.epoch == 3
    assert resumed.message_hub.get_info('best_score') == 0.75
    assert not list(tmp_path.glob('best_*')), '0.6 is no better than 0.75'
    losses = resumed.message_hub.get_scalar('train/loss')
    assert len(losses.data[0]) == 6, 'two iterations in each of three epochs'
    # The checkpoint that the resumed run writes can be read as well.
    again = read_checkpoint(str(tmp_path / 'epoch_3.pth'))
    assert again['message_hub']['runtime_info']['best_score'] == 0.75


def test_numbers_and_arrays_of_every_plain_type_come_back_equal(tmp_path):
    numbers = [np.dtype(code).type(1) for code in '?bhilqBHILQefdFD']
    arrays = [np.array([[0, 1, 1], [1, 0, 1]], code)
              for code in '?bhilqBHILQefdFD'] + [
                  np.zeros((0, 3)), np.asfortranarray(np.eye(3)[:2])]
    torch.save(dict(n=numbers, a=arrays, s=slice(1, None, 2)),
               tmp_path / 'n.pth')
    got = read_checkpoint(str(tmp_path / 'n.pth'))
    assert got['n'] == numbers and got['s'] == slice(1, None, 2)
    assert [x.dtype for x in got['n']] == [x.dtype for x in numbers]
    for one, other in zip(got['a'], arrays, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def test_checkpoints_pickled_under_numpy_1_are_read(tmp_path):
    path = tmp_path / 'old.pth'
    torch.save(dict(x=np.float64(0.5), y=np.arange(3.0)), path)
    rename_global(path, b'numpy._core.multiarray', b'numpy.core.multiarray')
    got = read_checkpoint(str(path))
    assert got['x'] == 0.5 and got['y'].tolist() == [0.0, 1.0, 2.0]


def rename_global(path, old: bytes, new: bytes) -> None:
    with zipfile.ZipFile(path) as f:
        records = {name: f.read(name) for name in f.namelist()}
    with zipfile.ZipFile(path, 'w') as f:
        for name, data in records.items():
            if name.endswith('data.pkl'):
                assert old in data or new in data
                data = data.replace(old, new)
            f.writestr(name, data)


# -------------------------------------------------------------- unsafe pickles


class Call:
    """Pickled as a call of ``function`` with ``args``."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) + ((state, ) if state else ())

    def __reduce__(self):
        return self.reduced

    def __call__(self):
        """Never called: pickle requires a callable."""


def write_sentinel(path):
    with open(path, 'w'):
        pass


def system(sentinel):
    return Call(os.system, f'touch {sentinel}')


def evaluate(sentinel):
    return Call(builtins.eval, f'open({str(sentinel)!r}, "w")')


def test_function(sentinel):
    return Call(write_sentinel, str(sentinel))


test_function.__test__ = False


def globals_of_history_buffer(sentinel):
    init = Call(getattr, HistoryBuffer, '__init__')
    get = Call(getattr, Call(getattr, init, '__globals__'), 'get')
    return Call(Call(getattr, Call(get, 'np'), 'save'), str(sentinel), 0)


def method_beyond_the_four(sentinel):
    return Call(getattr, HistoryBuffer, 'register_statistics')


def attribute_of_numpy(sentinel):
    array = np.zeros(3)
    return Call(Call(getattr, array, 'tofile'), str(sentinel))


def attribute_of_dtype(sentinel):
    return Call(getattr, np.dtype, '__subclasses__')


def getattr_with_default(sentinel):
    return Call(getattr, HistoryBuffer, 'mean', os.system)


def own_array_class(sentinel):
    return Call(np.zeros(1).__reduce__()[0], np.matrix, (0, ), b'b')


def object_array(sentinel):
    return np.array([system(sentinel)], dtype=object)


def object_scalar(sentinel):
    return Call(np.float64(1).__reduce__()[0], np.dtype('O'), b'\1' * 8)


def structured_array(sentinel):
    return np.zeros(1, dtype=[('f', 'f8')])


def array_constructor(sentinel):
    return Call(np.ndarray, (1 << 20, ), 'O')


def whole_module(sentinel):
    return torch.nn.Linear(1, 1)


MALICIOUS = [
    (system, 'posix.system'),
    (evaluate, 'eval'),
    (test_function, 'write_sentinel'),
    (globals_of_history_buffer, "getattr.*HistoryBuffer.*'__init__'"),
    (method_beyond_the_four, "getattr.*'register_statistics'"),
    (attribute_of_numpy, 'getattr.*tofile'),
    (attribute_of_dtype, "getattr.*'__subclasses__'"),
    (object_array, r"posix.system|numpy.dtype.*'O8'"),
    (object_scalar, r"numpy.dtype.*'O8'"),
    (structured_array, r"numpy.dtype.*'V8'"),
    (own_array_class, 'matrix'),
    (whole_module, 'torch.nn.modules.linear.Linear'),
]


def saved_as_torch_does(content, path):
    torch.save(content, path)


def saved_before_torch_1_6(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize(
    'save', [saved_as_torch_does, saved_before_torch_1_6, plain_pickle])
@pytest.mark.parametrize('make,refused', MALICIOUS)
def test_malicious_file_is_refused_and_runs_nothing(tmp_path, save, make,
                                                    refused):
    sentinel, path = tmp_path / 'sentinel', tmp_path / 'evil.pth'
    save(dict(state_dict={}, meta=make(sentinel)), path)
    with pytest.raises(UnsafeCheckpoint, match=refused) as caught:
        read_checkpoint(str(path))
    assert str(path) in str(caught.value)
    assert 'weights_only=False' in str(caught.value), 'names no cure'
    with pytest.raises(UnsafeCheckpoint):
        load_checkpoint(Line(), str(path))
    assert not sentinel.exists()


def test_the_malicious_files_run_if_nothing_stops_them(tmp_path):
    """Without a safe reader, they create the sentinel."""
    for i, make in enumerate([system, evaluate, test_function]):
        sentinel = tmp_path / str(i)
        pickle.loads(pickle.dumps(make(sentinel), protocol=2))
        assert sentinel.exists()


def test_file_can_neither_call_ndarray_nor_pass_getattr_a_default(tmp_path):
    for make in (array_constructor, getattr_with_default):
        torch.save(dict(x=make(None)), tmp_path / 'evil.pth')
        with pytest.raises((UnsafeCheckpoint, CorruptCheckpoint)):
            read_checkpoint(str(tmp_path / 'evil.pth'))


def test_file_cannot_turn_numbers_into_addresses(tmp_path):
    """Flag 63 marks the items of a dtype as pointers to objects."""
    number = np.dtype('f8')
    before = (number.flags, number.fields, number.byteorder)
    evil = Call(np.dtype, 'f8', False, True,
                state=(3, '<', None, None, None, -1, -1, 63))
    torch.save(dict(x=evil), tmp_path / 'evil.pth')
    got = read_checkpoint(str(tmp_path / 'evil.pth'))['x']
    assert got is number
    assert (number.flags, number.fields, number.byteorder) == before


def test_torch_load_stays_safe(tmp_path):
    allow_mmengine_types()
    count = len(torch.serialization.get_safe_globals())
    install_safe_loading()
    allow_mmengine_types()
    assert len(torch.serialization.get_safe_globals()) == count
    torch.save(system(tmp_path / 'sentinel'), tmp_path / 'evil.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'evil.pth')
    assert not (tmp_path / 'sentinel').exists()


# ------------------------------------------------- incomplete and other files


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=Line().state_dict(), x=torch.ones(5000)), path)
    return path


@pytest.mark.parametrize('kept', [0, 1, 0.1, 0.5, 0.9, -1])
@pytest.mark.parametrize('zipped', [True, False])
def test_torn_file(tmp_path, kept, zipped):
    path = tmp_path / 'torn.pth'
    torch.save(dict(state_dict=Line().state_dict(), x=torch.ones(5000)),
               path,
               _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * kept) if 0 < kept < 1 else kept])
    with pytest.raises(CorruptCheckpoint, match='fetch it again') as caught:
        read_checkpoint(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    'data', [b'<html>404</html>', b'\x89PNG\r\n\x1a\n', b'PK\x03\x04hello'])
def test_file_of_another_kind(tmp_path, data):
    (tmp_path / 'other.pth').write_bytes(data)
    with pytest.raises(CorruptCheckpoint):
        read_checkpoint(str(tmp_path / 'other.pth'))


def test_zip_archive_that_is_no_checkpoint(tmp_path):
    with zipfile.ZipFile(tmp_path / 'other.pth', 'w') as f:
        f.writestr('hello.txt', 'hello')
    with pytest.raises(CorruptCheckpoint):
        read_checkpoint(str(tmp_path / 'other.pth'))


def test_content_that_is_no_dict(tmp_path):
    torch.save(torch.ones(2), tmp_path / 'tensor.pth')
    with pytest.raises(CorruptCheckpoint, match='holds a Tensor'):
        read_checkpoint(str(tmp_path / 'tensor.pth'))


@pytest.mark.filterwarnings('ignore:.*TorchScript archive')
def test_script_archive_is_refused(tmp_path):
    torch.jit.script(torch.nn.ReLU()).save(str(tmp_path / 'script.pth'))
    with pytest.raises(UnsafeCheckpoint, match='TorchScript'):
        read_checkpoint(str(tmp_path / 'script.pth'))


def test_fault_of_the_device_is_not_blamed_on_the_file(weights):
    with pytest.raises(RuntimeError) as caught:
        read_checkpoint(str(weights), 'cuda:99')
    assert not isinstance(caught.value, (CorruptCheckpoint, UnsafeCheckpoint))


@pytest.mark.parametrize('function', [
    read_checkpoint, fetch_checkpoint, checkpoint_hash,
    CheckpointLoader.load_checkpoint])
def test_missing_file_is_named(tmp_path, function):
    path = str(tmp_path / 'missing.pth')
    with pytest.raises(FileNotFoundError, match=path):
        function(path)


def test_home_folder_is_expanded(weights, monkeypatch):
    monkeypatch.setenv('HOME', str(weights.parent))
    assert fetch_checkpoint('~/weights.pth') == str(weights)
    assert len(read_checkpoint('~/weights.pth')['x']) == 5000


def test_hash_is_of_the_content_and_read_once(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    path.write_bytes(b'a' * 3000000)
    assert checkpoint_hash(str(path)) == hashlib.sha256(b'a' *
                                                        3000000).hexdigest()
    read = []
    monkeypatch.setattr(
        checkpoints,
        'open',
        lambda *args: read.append(args) or open(*args),
        raising=False)
    checkpoint_hash(str(path))
    assert not read
    path.write_bytes(b'b')
    assert checkpoint_hash(str(path)) == hashlib.sha256(b'b').hexdigest()
    assert len(read) == 1


# ------------------------------------------------------------------- downloads


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A server for a folder: its address, the folder, the requests so far."""
    folder = tmp_path / 'site'
    folder.mkdir()
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):

        def log_message(self, *args):
            requests.append(self.path)

    server = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch_home'))
    for name in ('http_proxy', 'HTTP_PROXY'):
        monkeypatch.delenv(name, raising=False)
    yield f'http://127.0.0.1:{server.server_port}', folder, requests
    server.shutdown()
    thread.join()
    server.server_close()


def publish(folder, name='net_{hash}.pth', **content) -> str:
    torch.save(content, folder / 'tmp')
    digest = hashlib.sha256((folder / 'tmp').read_bytes()).hexdigest()
    name = name.format(hash=digest[:8])
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / 'tmp').rename(folder / name)
    return name


def test_url_is_downloaded_once_and_its_hash_checked(site, tmp_path):
    address, folder, requests = site
    url = f"{address}/{publish(folder, 'net_1x-{hash}.pth', a=1)}"
    path = fetch_checkpoint(url)
    assert path.startswith(str(tmp_path / 'torch_home'))
    assert fetch_checkpoint(url) == path
    assert CheckpointLoader.load_checkpoint(url) == dict(a=1)
    assert len(requests) == 1


def test_wrong_hash_is_refused_and_not_kept(site, tmp_path):
    address, folder, _ = site
    publish(folder, 'net-bfe6e6b8.pth', a=1)
    with pytest.raises(CorruptCheckpoint, match='bfe6e6b8') as caught:
        fetch_checkpoint(f'{address}/net-bfe6e6b8.pth')
    assert address in str(caught.value)
    assert not list((tmp_path / 'torch_home').rglob('*.pth'))


def test_incomplete_download_is_noticed(site):
    address, folder, _ = site
    url = f"{address}/{publish(folder, 'net-{hash}.pth', a=1)}"
    with open(fetch_checkpoint(url), 'r+b') as f:
        f.truncate(100)
    with pytest.raises(CorruptCheckpoint):
        fetch_checkpoint(url)
    assert read_checkpoint(fetch_checkpoint(url)) == dict(a=1)


def test_date_in_a_name_is_no_hash(site):
    address, folder, _ = site
    name = publish(folder, 'net-20210524.pth', a=1)
    assert read_checkpoint(fetch_checkpoint(f'{address}/{name}')) == dict(a=1)


def test_files_of_one_name_are_kept_apart(site):
    address, folder, _ = site
    for i in (1, 2):
        publish(folder, f'run{i}/epoch_12.pth', a=i)
    for i in (1, 2):
        path = fetch_checkpoint(f'{address}/run{i}/epoch_12.pth?download=1')
        assert os.path.basename(path) == 'epoch_12.pth'
        assert read_checkpoint(path) == dict(a=i)


@pytest.mark.parametrize('name', ['missing.pth', 'folder/'])
def test_url_that_cannot_be_downloaded_is_named(site, name):
    url = f'{site[0]}/{name}'
    with pytest.raises(CheckpointUnavailable, match=url) as caught:
        fetch_checkpoint(url)
    assert 'by hand' in str(caught.value)


def test_unreachable_site_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    url = 'http://127.0.0.1:9/x.pth'
    with pytest.raises(CheckpointUnavailable, match=url):
        fetch_checkpoint(url)


@pytest.mark.parametrize('prefix', ['', 'torchvision://', 'mmcls://'])
def test_malicious_download_is_refused_by_every_loader(site, tmp_path, prefix,
                                                       monkeypatch):
    address, folder, _ = site
    sentinel = tmp_path / 'sentinel'
    url = f"{address}/{publish(folder, 'evil-{hash}.pth', a=system(sentinel))}"
    for urls in ('get_torchvision_models', 'get_mmcls_models'):
        monkeypatch.setattr(f'mmengine.runner.checkpoint.{urls}',
                            lambda: dict(evil=url))
    with pytest.raises(UnsafeCheckpoint, match='system'):
        CheckpointLoader.load_checkpoint(prefix + 'evil' if prefix else url)
    assert not sentinel.exists()
