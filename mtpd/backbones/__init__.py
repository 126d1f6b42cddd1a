"""Backbones of timm and torchvision, by name in mmdet's registry."""
from .from_config import starts_from_file
from .neck_channels import fill_in_channels
from .preprocessing import fill_in_normalisation, other_normalisation
from .timm_backbone import TimmBackbone
from .torchvision_backbone import TorchvisionBackbone

__all__ = ['TimmBackbone', 'TorchvisionBackbone', 'fill_in_channels',
           'fill_in_normalisation', 'other_normalisation', 'starts_from_file']
