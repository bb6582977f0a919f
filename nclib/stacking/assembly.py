"""Which layer stands for which module of the E networks, from one convolution to a whole trunk."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from nclib.models.mnist1d import AsImage, ResidualBlock1D
from nclib.models.network import ChannelsLast, SpatialMean
from nclib.stacking.batch_norm import BatchNorm
from nclib.stacking.convolution import Convolution, Pointwise, SingleChannelConvolution
from nclib.stacking.flat import Flat
from nclib.stacking.layers import Chain, Layer, Linear, MaxPool, Mean, ReLU


class ResidualBlock(Layer):
    """y = relu(S(x) + F(x)): F two convolutions with their normalisations and a ReLU between, S(x) mostly x."""

    def __init__(self, modules: Sequence[ResidualBlock1D], name: str, flat: Flat):
        def part(kind: Callable[..., Layer], attribute: str) -> Layer:
            return kind([getattr(m, attribute) for m in modules], f"{name}.{attribute}", flat)

        first = [part(Convolution, "conv1"), part(BatchNorm, "bn1"), ReLU()]
        self._F = Chain([*first, part(Convolution, "conv2"), part(BatchNorm, "bn2")])
        self._S = None if modules[0].shortcut is None else part(_chain, "shortcut")
        self._relu = ReLU()
        self.norms = [*self._F.norms, *(() if self._S is None else self._S.norms)]

    def forward(self, x: Tensor) -> Tensor:
        y = self._F.forward(x)
        return self._relu.forward(y.add_(x if self._S is None else self._S.forward(x)))

    def backward(self, g: Tensor, wanted: bool = True) -> Tensor:
        g = self._relu.backward(g)
        return self._F.backward(g).add_(g if self._S is None else self._S.backward(g))


def _convolution(modules: Sequence[nn.Conv2d], name: str, flat: Flat) -> Layer:
    if modules[0].kernel_size == (1, 1):
        return Pointwise(modules, name, flat)
    return (SingleChannelConvolution if modules[0].in_channels == 1 else Convolution)(modules, name, flat)


def _chain(modules: Sequence[nn.Sequential], name: str, flat: Flat) -> Chain:
    children = zip(*(m.named_children() for m in modules), strict=True)
    parts = [([m for _, m in child], f"{name}.{child[0][0]}") for child in children]
    return Chain([stacked(each, own, flat) for each, own in parts if type(each[0]) not in _LAYOUT_ONLY])


_LAYOUT_ONLY = (AsImage, ChannelsLast)
_LAYERS = {
    nn.Sequential: _chain,
    nn.Conv2d: _convolution,
    nn.BatchNorm2d: BatchNorm,
    nn.ReLU: ReLU,
    nn.MaxPool2d: MaxPool,
    nn.Linear: Linear,
    SpatialMean: Mean,
    ResidualBlock1D: ResidualBlock,
}


def stacked(modules: Sequence[nn.Module], name: str, flat: Flat) -> Layer:
    """The layer that stands for E modules of one shape; `name` is theirs within their networks.

    Raises TypeError, naming the module, for one that has no stacked form.
    """
    if type(modules[0]) not in _LAYERS:
        raise TypeError(f"{name}: {type(modules[0]).__name__} has no stacked form")
    return _LAYERS[type(modules[0])](modules, name, flat)
