"""VGG-11 with batch normalisation, without hidden fully connected layers, for small images."""

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nclib.models import initialise
from nclib.models.initialise import blank
from nclib.models.network import ChannelsLast, Network

CHANNELS = ((1,), (2,), (4, 4), (8, 8), (8, 8))
"""Configuration A of Simonyan & Zisserman (2015), in units of 64 channels; a max-pool follows each group."""
SIDE = 32
"""Pixels that five halvings turn into one."""


class VGG11(Network):
    """Eight 3x3 convolutions, each with batch normalisation and ReLU, five 2x2 max-pools and a linear head.

    torchvision's `vgg11_bn` with `width` channels in its first stage and d = 8 width; 64 is the published width
    and gives d = 512. Two things are ours, for small images. The two hidden fully connected layers are left
    out, so that the features are the last max-pool's single pixel, non-negative because it follows a ReLU.
    Convolutions have no bias: batch normalisation would take it away again. How Papyan et al. (2020) adapt
    their VGG networks we could not read. Initialisation is torchvision's.

    Images have 32 x 32 pixels; those of 28 x 28 get a border of zeros, two pixels wide, as Papyan et al. pad
    MNIST. Any other size raises ValueError.

    Layers: stage1 .. stage5 (n, c, h, h), c = w, 2w, 4w, 8w, 8w and h = 32, 16, 8, 4, 2; features (n, 8w).
    """

    def __init__(
        self, *, num_classes: int, in_channels: int = 1, width: int = 64, generator: torch.Generator
    ):
        stages, channels = OrderedDict(), in_channels
        for k, group in enumerate(CHANNELS):
            parts = [Pad(SIDE), ChannelsLast()] if k == 0 else [nn.MaxPool2d(2)]
            for units in group:
                parts += [
                    blank(nn.Conv2d, channels, units * width, 3, padding=1, bias=False),
                    blank(nn.BatchNorm2d, units * width),
                    nn.ReLU(inplace=True),
                ]
                channels = units * width
            stages[f"stage{k + 1}"] = nn.Sequential(*parts)
        stages["features"] = nn.Sequential(nn.MaxPool2d(2), nn.Flatten())
        super().__init__(nn.Sequential(stages), blank(nn.Linear, channels, num_classes))
        initialise.torchvision_vgg(self, generator)


class Pad(nn.Module):
    """Zeros around images of `side - 4` pixels, two on each border; images of `side` pixels stay as they are.

    Raises ValueError for other sizes.
    """

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c side side"]:
        """Images of `side` x `side` pixels."""
        size, small = tuple(x.shape[-2:]), self.side - 4
        if size not in ((small, small), (self.side, self.side)):
            raise ValueError(
                f"images must have {small} x {small} or {self.side} x {self.side} pixels, "
                f"got {size[0]} x {size[1]}"
            )
        return functional.pad(x, [(self.side - size[0]) // 2] * 4)
