"""ResNet: which sizes its paddings allow."""

import pytest
import torch

from hf_vits import ResNetConfig, ResNetModel
from tests.models.res_net.forms import TINY


def test_mirrored_rows_need_maps_of_two():
    plain, mirrored = (ResNetModel(ResNetConfig(**TINY, padding_mode=mode)).eval() for mode in ("zeros", "reflect"))
    smallest = 4 * torch.tensor(plain.config.strides).prod().item() + 1
    for size in ((1, 40), (40, smallest - 1)):
        plain(torch.rand(1, 3, *size))
        with pytest.raises(ValueError, match=f"height and width of at least {smallest}"):
            mirrored(torch.rand(1, 3, *size))
    mirrored(torch.rand(1, 3, 40, smallest))
