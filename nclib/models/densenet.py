"""DenseNet-40 for small images (Huang et al., 2017)."""

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nclib.models import initialise
from nclib.models.initialise import blank
from nclib.models.network import ChannelsLast, Network, SpatialMean

BLOCKS, LAYERS, STEM = 3, 12, 16
"""Three blocks of (40 - 4)/3 layers after a convolution with 16 channels: depth 40 of Huang et al. (2017)."""


class DenseNet40(Network):
    """Three blocks of 12 layers, each of which adds `width` channels to all that came before it.

    The network of Huang et al. (2017) with depth 40, without bottlenecks, compression or dropout; `width` is
    their growth rate k, and 12 is theirs. d = 16 + 36 width, 448 at width 12. Features are non-negative
    because they follow a ReLU and an average pool; the head has a bias. Initialisation is torchvision's for
    its DenseNets. Papyan et al. (2020) used deeper ones, as we recall it; what they changed in them we could not read.

    Layers: stem (n, 16, h, h), block1, transition1, block2, transition2, block3 (n, c, ., .), features (n, d).
    A block ends with 12 width channels more than it begins with; a transition halves height and width.
    """

    def __init__(
        self, *, num_classes: int, in_channels: int = 1, width: int = 12, generator: torch.Generator
    ):
        stem = nn.Sequential(ChannelsLast(), blank(nn.Conv2d, in_channels, STEM, 3, padding=1, bias=False))
        stages, channels = OrderedDict(stem=stem), STEM
        for k in range(1, BLOCKS + 1):
            layers = [DenseLayer(channels + i * width, width) for i in range(LAYERS)]
            stages[f"block{k}"] = nn.Sequential(*layers)
            channels += LAYERS * width
            if k < BLOCKS:
                mix = blank(nn.Conv2d, channels, channels, 1, bias=False)
                stages[f"transition{k}"] = nn.Sequential(*_normalised(channels), mix, nn.AvgPool2d(2))
        stages["features"] = nn.Sequential(*_normalised(channels), SpatialMean())
        super().__init__(nn.Sequential(stages), blank(nn.Linear, channels, num_classes))
        initialise.torchvision_densenet(self, generator)


class DenseLayer(nn.Module):
    """The input, and after it `growth` channels more: conv(relu(bn(x))), kernel 3, padding 1."""

    def __init__(self, channels: int, growth: int):
        super().__init__()
        self.bn = blank(nn.BatchNorm2d, channels)
        self.conv = blank(nn.Conv2d, channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h w"]:
        """The concatenation, c2 = c + growth."""
        return torch.cat([x, self.conv(torch.relu_(self.bn(x)))], dim=1)


def _normalised(channels: int) -> tuple[nn.BatchNorm2d, nn.ReLU]:
    return blank(nn.BatchNorm2d, channels), nn.ReLU(inplace=True)
