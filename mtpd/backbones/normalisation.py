"""How pretrained weights want their images: mean, deviation, channel order."""
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

CLOSE = 0.02
"""Differences up to this part of the deviation are not reported. The files of
EfficientNet-Lite were trained with mean 127 and deviation 128, and timm says
127.5 for both."""


@dataclass(frozen=True)
class Normalisation:
    """What is subtracted from the channels red, green, blue of an image with
    values from 0 to 255, and what they are then divided by.

    Attributes:
        mean: Of each channel.
        std: Of each channel.
    """
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_unit_range(cls, mean: Sequence[float],
                      std: Sequence[float]) -> 'Normalisation':
        """From numbers for values from 0 to 1, as the libraries have them."""
        # 0.406 * 255 has sixteen digits.
        return cls(tuple(round(value * 255, 4) for value in mean),
                   tuple(round(value * 255, 4) for value in std))

    def as_config(self) -> dict[str, Any]:
        """The same as arguments of mmdet's ``DetDataPreprocessor``."""
        return dict(mean=list(self.mean), std=list(self.std),
                    bgr_to_rgb=True, rgb_to_bgr=False)

    def differs_from(self, preprocessor: Mapping[str, Any]) -> bool:
        """Whether a data preprocessor's numbers or channel order are others.

        Args:
            preprocessor: Its config. mmdet's images have the channels blue,
                green, red, and either flag turns them round.
        """
        mean, std = preprocessor.get('mean'), preprocessor.get('std')
        if mean is None or std is None or len(mean) != len(self.mean) \
                or len(std) != len(self.std):
            return True
        turned = preprocessor.get('bgr_to_rgb', False) \
            or preprocessor.get('rgb_to_bgr', False)
        for i, wanted in enumerate(self.std):
            if abs(mean[i] - self.mean[i]) > CLOSE * wanted \
                    or abs(std[i] - wanted) > CLOSE * wanted:
                return True
        return not turned

    def __str__(self) -> str:
        return f'mean={list(self.mean)}, std={list(self.std)}, bgr_to_rgb=True'
