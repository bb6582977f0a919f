"""ResNet-18 as Papyan, Han & Donoho (2020) use it on small images."""

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nclib.models import initialise
from nclib.models.initialise import blank
from nclib.models.network import ChannelsLast, Network, SpatialMean


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, added to a shortcut (He et al., 2016).

    The shortcut is the identity, or a 1x1 convolution with batch normalisation where the shape changes.
    `mid_channels` is the width between the two convolutions, `out_channels` unless given.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, mid_channels: int | None = None
    ):
        super().__init__()
        mid = out_channels if mid_channels is None else mid_channels
        self.conv1 = blank(nn.Conv2d, in_channels, mid, 3, stride=stride, padding=1, bias=False)
        self.bn1 = blank(nn.BatchNorm2d, mid)
        self.conv2 = blank(nn.Conv2d, mid, out_channels, 3, padding=1, bias=False)
        self.bn2 = blank(nn.BatchNorm2d, out_channels)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                blank(nn.Conv2d, in_channels, out_channels, 1, stride=stride, bias=False),
                blank(nn.BatchNorm2d, out_channels),
            )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))."""
        y = torch.relu_(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        # In place on y only: x is another stage's activation and may be measured.
        y += x if self.shortcut is None else self.shortcut(x)
        return torch.relu_(y)


class ResNet18(Network):
    """torchvision's ResNet-18 with a 3x3 stride-1 stem, no max-pool and `width` channels in its first stage.

    Papyan et al. (2020) replace the 7x7 stem and drop the pooling so that 28x28 and 32x32 images keep their
    resolution; `width=64` is theirs, with features of dimension d = 8 * 64 = 512, non-negative because they
    follow a ReLU and an average pool. The head has a bias. Initialisation is torchvision's.

    feature_dim: if given, the last block's second convolution and a new 1x1 shortcut have that many output
    channels, so that d = feature_dim: the network with d = K of Zhu et al. (2021).

    Layers: stem (n, w, h, h), stage1 .. stage4 (n, w .. 8w, h .. h/8), features (n, d).
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 1,
        width: int = 64,
        feature_dim: int | None = None,
        generator: torch.Generator,
    ):
        d = 8 * width if feature_dim is None else feature_dim
        stem = nn.Sequential(
            ChannelsLast(),
            blank(nn.Conv2d, in_channels, width, 3, padding=1, bias=False),
            blank(nn.BatchNorm2d, width),
            nn.ReLU(inplace=True),
        )
        stages = OrderedDict(stem=stem)
        for k in range(4):
            channels = width * 2**k
            before = width if k == 0 else channels // 2
            first = BasicBlock(before, channels, stride=1 if k == 0 else 2)
            second = BasicBlock(channels, d if k == 3 else channels, mid_channels=channels)
            stages[f"stage{k + 1}"] = nn.Sequential(first, second)
        stages["features"] = SpatialMean()
        super().__init__(nn.Sequential(stages), blank(nn.Linear, d, num_classes))
        initialise.torchvision_resnet(self, generator)
