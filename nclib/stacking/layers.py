r"""Layers of E one-dimensional networks at once, their gradients written out by hand.

Activations are (E, C, L, B): networks, channels, positions, samples, contiguous. Samples come last, so that a
shift by one position is a shift by B in memory: a convolution is three matrix products on shifted views, and
one channel of one network is one contiguous row, which batch normalisation reduces. No two networks meet in
any operation: what one computes does not depend on which others are there.

A layer keeps from `forward` what `backward` needs. `backward` takes the gradient at the layer's output, writes
the gradients of the layer's parameters where `Flat` has put them, and returns the gradient at its input, or
None where that is not `wanted`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nclib.stacking.flat import Flat

if TYPE_CHECKING:
    from nclib.stacking.batch_norm import BatchNorm


class Layer:
    """What every layer does; `norms` are the batch normalisations in it."""

    norms: "Sequence[BatchNorm]" = ()

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output; what the gradient needs of it is kept."""
        raise NotImplementedError

    def backward(self, g: Tensor, wanted: bool = True) -> Tensor | None:
        """From the gradient at the output to that at the input; the parameters' on the way."""
        raise NotImplementedError


class ReLU(Layer):
    """y = max(x, 0), in the memory of x; its gradient in the memory of the gradient that comes in."""

    def __init__(self, *_):
        pass

    def forward(self, x: Tensor) -> Tensor:
        self._y = x.relu_()
        return self._y

    def backward(self, g: Tensor, wanted: bool = True) -> Tensor:
        if not g.is_contiguous():  # a mean's gradient, one number for many positions
            g = g.contiguous()
        return torch.ops.aten.threshold_backward.grad_input(g, self._y, 0, grad_input=g)


class MaxPool(Layer):
    """The larger of every two neighbouring positions; a last one without a neighbour is left out."""

    def __init__(self, modules: Sequence[nn.MaxPool2d], name: str, _flat: Flat):
        m = modules[0]
        if (m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode) != ((1, 2), (1, 2), 0, 1, False):
            raise TypeError(f"{name}: only max-pooling over pairs can be stacked")

    def forward(self, x: Float[Tensor, "E C L B"]) -> Float[Tensor, "E C L//2 B"]:
        self._odd = x.shape[2] % 2
        first, second = x[:, :, :-1:2], x[:, :, 1::2]
        self._second_wins = second > first  # of equal values the first gets the gradient, as in torch
        return torch.maximum(first, second)

    def backward(self, g: Float[Tensor, "E C half B"], wanted: bool = True) -> Float[Tensor, "E C L B"]:
        second = g * self._second_wins
        h = torch.stack((g - second, second), dim=3).flatten(2, 3)
        return nn.functional.pad(h, (0, 0, 0, 1)) if self._odd else h


class Mean(Layer):
    """The mean over positions."""

    def __init__(self, *_):
        pass

    def forward(self, x: Float[Tensor, "E d L B"]) -> Float[Tensor, "E d B"]:
        self._shape = x.shape
        return x.mean(2)

    def backward(self, g: Float[Tensor, "E d B"], wanted: bool = True) -> Float[Tensor, "E d L B"]:
        return (g / self._shape[2]).unsqueeze(2).expand(self._shape)


class Linear(Layer):
    """y = W x, no bias."""

    def __init__(self, modules: Sequence[nn.Linear], name: str, flat: Flat):
        if modules[0].bias is not None:
            raise TypeError(f"{name}: only linear maps without bias can be stacked")
        self.W, self.dW = (flat.view(b, f"{name}.weight") for b in (flat.values, flat.gradients))

    def forward(self, x: Float[Tensor, "E d B"]) -> Float[Tensor, "E p B"]:
        self._x = x
        return torch.bmm(self.W, x)

    def backward(self, g: Float[Tensor, "E p B"], wanted: bool = True) -> Float[Tensor, "E d B"]:
        torch.bmm(g, self._x.mT, out=self.dW)
        return torch.bmm(self.W.mT, g)


class Chain(Layer):
    """One layer after the other."""

    def __init__(self, layers: Sequence[Layer]):
        self._layers = list(layers)
        self.norms = [norm for layer in self._layers for norm in layer.norms]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self._layers:
            x = layer.forward(x)
        return x

    def backward(self, g: Tensor, wanted: bool = True) -> Tensor | None:
        for layer in reversed(self._layers):
            g = layer.backward(g, wanted or layer is not self._layers[0])
        return g
