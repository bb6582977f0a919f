"""The two one-dimensional networks of the MNIST-1D double-descent study (Bardazzi, 2026).

A signal is treated as an image one pixel high, (n, c, 1, l), in channels-last order: the same arithmetic as
with one-dimensional layers, and less time for a training step on a CPU at widths from 8 on.
"""

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nclib.models import initialise
from nclib.models.initialise import blank
from nclib.models.network import ChannelsLast, Network, SpatialMean


class _Network1D(Network):
    def __init__(self, trunk: nn.Sequential, head: nn.Linear, generator: torch.Generator):
        super().__init__(trunk, head)
        initialise.torch_default(self, generator)

    def layers(self, x: Float[Tensor, "n c l"]) -> dict[str, Tensor]:
        """As `Network.layers`, without the axis of height one: activations are (n, channels, length)."""
        return {name: a.squeeze(2) if a.ndim == 4 else a for name, a in super().layers(x).items()}


class ResNet1D(_Network1D):
    """Stem, two residual blocks of constant width w, average pool, and a linear head without bias.

    Every convolution has kernel 3, padding 1 and no bias, and is followed by batch normalisation; nothing
    is downsampled. 12 w^2 + 23 w parameters for 10 classes and one input channel; features of dimension w.
    feature_dim: if given, a linear map w -> feature_dim without bias or nonlinearity stands between the
    pool and the head, which is then feature_dim -> K (the study's third experiment); with `projector` False
    there is no such map, and the second block itself hands on feature_dim channels, which are not negative.
    PyTorch's default initialisation.

    Layers: stem, block1, block2 (n, w, l), features (n, d). The study calls them L0, L1, L2, L3; without a
    projector its L3 is the average pool of its L2: once activations are pooled for measurement the two are
    the same tensor.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 1,
        width: int = 64,
        feature_dim: int | None = None,
        projector: bool = True,
        generator: torch.Generator,
    ):
        d = width if feature_dim is None else feature_dim
        features = SpatialMean()
        if feature_dim is not None and projector:
            features = nn.Sequential(features, blank(nn.Linear, width, feature_dim, bias=False))
        stages = OrderedDict(
            stem=nn.Sequential(
                AsImage(), ChannelsLast(), *_convolution(in_channels, width), nn.ReLU(inplace=True)
            ),
            block1=ResidualBlock1D(width),
            block2=ResidualBlock1D(width, width if projector else d),
            features=features,
        )
        super().__init__(nn.Sequential(stages), blank(nn.Linear, d, num_classes, bias=False), generator)


class CNN1D(_Network1D):
    """Four convolutions of widths w, w, 2w, 2w, average pool, and a linear head without bias.

    Every convolution has kernel 3, padding 1 and no bias, and is followed by batch normalisation and ReLU;
    the first two also by max-pooling over pairs. 21 w^2 + 35 w parameters for 10 classes and one input
    channel; features of dimension 2w. PyTorch's default initialisation.

    Layers: conv1 (n, w, l/2), conv2 (n, w, l/4), conv3, conv4 (n, 2w, l/4), features (n, 2w).
    """

    def __init__(
        self, *, num_classes: int = 10, in_channels: int = 1, width: int = 64, generator: torch.Generator
    ):
        w = width
        relu, halve = nn.ReLU(inplace=True), nn.MaxPool2d((1, 2))
        stages = OrderedDict(
            conv1=nn.Sequential(AsImage(), ChannelsLast(), *_convolution(in_channels, w), relu, halve),
            conv2=nn.Sequential(*_convolution(w, w), relu, halve),
            conv3=nn.Sequential(*_convolution(w, 2 * w), relu),
            conv4=nn.Sequential(*_convolution(2 * w, 2 * w), relu),
            features=SpatialMean(),
        )
        super().__init__(nn.Sequential(stages), blank(nn.Linear, 2 * w, num_classes, bias=False), generator)


class ResidualBlock1D(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x)))))): kernel 3, padding 1, no convolution bias.

    Where it hands on another number of channels than it takes, x first goes through a convolution of kernel 1
    and a batch normalisation, as in He et al. (2016); `shortcut` is None where it does not.
    """

    def __init__(self, width: int, out_channels: int | None = None):
        super().__init__()
        out_channels = width if out_channels is None else out_channels
        self.conv1, self.bn1 = _convolution(width, out_channels)
        self.conv2, self.bn2 = _convolution(out_channels, out_channels)
        self.shortcut = None
        if out_channels != width:
            self.shortcut = nn.Sequential(*_convolution(width, out_channels, kernel=1))

    def forward(self, x: Float[Tensor, "n c 1 l"]) -> Float[Tensor, "n o 1 l"]:
        """The block's output, as long as its input."""
        y = torch.relu_(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        # In place on y only: x is another stage's activation and may be measured.
        y += x if self.shortcut is None else self.shortcut(x)
        return torch.relu_(y)


class AsImage(nn.Module):
    def forward(self, x: Float[Tensor, "n c l"]) -> Float[Tensor, "n c 1 l"]:
        return x.unsqueeze(2)


def _convolution(in_channels: int, out_channels: int, kernel: int = 3) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    options = {"kernel_size": (1, kernel), "padding": (0, kernel // 2), "bias": False}
    return blank(nn.Conv2d, in_channels, out_channels, **options), blank(nn.BatchNorm2d, out_channels)
