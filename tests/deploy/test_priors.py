"""Priors at some positions are those that mmdet makes at all of them."""
import pytest
import torch
from mmdet.registry import TASK_UTILS
from mmdet.utils import register_all_modules

from mtpd.deploy.network.priors import priors_at

register_all_modules(init_default_scope=True)


@pytest.mark.parametrize('config', [
    dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3,
         ratios=[.5, 1., 2.], strides=[8, 16, 32]),
    dict(type='AnchorGenerator', scales=[8], ratios=[1.], strides=[8, 16, 32]),
    dict(type='AnchorGenerator', scales=[8], ratios=[1., 3.],
         strides=[(8, 4), (16, 8), (32, 16)], center_offset=.5),
    dict(type='MlvlPointGenerator', strides=[8, 16, 32]),
    dict(type='MlvlPointGenerator', strides=[8, 16, 32], offset=0),
    dict(type='MlvlPointGenerator', strides=[7, 9, 10], offset=.3),
    # Other numbers of anchors in other levels: by mmdet's own.
    dict(type='SSDAnchorGenerator', input_size=300, strides=[8, 16, 32],
         ratios=[[2], [2, 3], [2]], basesize_ratio_range=(.15, .9),
         scale_major=False)])
def test_they_are_mmdets(config):
    generator = TASK_UTILS.build(config)
    torch.manual_seed(0)
    maps = [torch.zeros(2, 1, *size) for size in ((9, 14), (5, 7), (1, 1))]
    grids = generator.grid_priors([one.shape[2:] for one in maps],
                                  device='cpu')
    positions = [torch.randint(len(grid), (2, 2 * len(grid)))
                 for grid in grids]
    expected = torch.cat([grid[at] for grid, at in zip(grids, positions)], 1)
    torch.testing.assert_close(priors_at(generator, maps, positions),
                               expected, rtol=1e-6, atol=0)


def test_a_generator_of_ones_own_makes_them_itself():
    class Moved(TASK_UTILS.get('AnchorGenerator')):
        def grid_priors(self, *args, **settings):
            return [one + 1 for one in super().grid_priors(*args, **settings)]

    generator = Moved(strides=[8], ratios=[1.], scales=[4])
    moved = priors_at(generator, [torch.zeros(1, 1, 2, 2)],
                      [torch.tensor([[3]])])
    # The cell at (8, 8), 32 wide, moved by 1.
    assert moved.tolist() == [[[-7., -7., 25., 25.]]]
