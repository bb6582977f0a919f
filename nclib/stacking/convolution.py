"""Convolutions of E networks at once, as products of matrices."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nclib.stacking.flat import Flat
from nclib.stacking.layers import Layer


class Convolution(Layer):
    """y_l = W_0 x_{l-1} + W_1 x_l + W_2 x_{l+1}: kernel 3, padding 1, no bias."""

    def __init__(self, modules: Sequence[nn.Conv2d], name: str, flat: Flat):
        _check_kernel(modules[0], name, 3)
        W, dW = (flat.view(b, f"{name}.weight") for b in (flat.values, flat.gradients))
        self._W, self._WT, self._dW = W.unbind(), W.mT.unbind(), dW.unbind()
        self._x, self._g = _Padded(), _Padded()

    def forward(self, x: Float[Tensor, "E c L B"]) -> Float[Tensor, "E o L B"]:
        left, centre, right = self._taps = self._x.shifted(x)
        y = torch.bmm(self._W[1], centre)
        y.baddbmm_(self._W[0], left).baddbmm_(self._W[2], right)
        return y.unflatten(2, x.shape[2:])

    def backward(self, g: Float[Tensor, "E o L B"], wanted: bool = True) -> Tensor | None:
        flat = g.flatten(2)
        for dW, x in zip(self._dW, self._taps, strict=True):
            torch.bmm(flat, x.mT, out=dW)
        return self._at_the_input(g) if wanted else None

    def _at_the_input(self, g: Float[Tensor, "E o L B"]) -> Float[Tensor, "E c L B"]:
        left, centre, right = self._g.shifted(g)
        h = torch.bmm(self._WT[1], centre)
        h.baddbmm_(self._WT[0], right).baddbmm_(self._WT[2], left)
        return h.unflatten(2, g.shape[2:])


class SingleChannelConvolution(Convolution):
    """The same of one channel, its three taps in one product.

    Products with a side of one are rounded differently for one network than for several; with three they are
    not, and what a network computes stays the same to the bit, whoever is beside it.
    """

    def forward(self, x: Float[Tensor, "E 1 L B"]) -> Float[Tensor, "E o L B"]:
        self._window = torch.cat(self._x.shifted(x), dim=1)
        return torch.bmm(torch.cat(self._W, dim=2), self._window).unflatten(2, x.shape[2:])

    def backward(self, g: Float[Tensor, "E o L B"], wanted: bool = True) -> Tensor | None:
        for dW, own in zip(self._dW, torch.bmm(g.flatten(2), self._window.mT).unbind(2), strict=True):
            dW.copy_(own.unsqueeze(2))
        return self._at_the_input(g) if wanted else None


class Pointwise(Layer):
    """y_l = W x_l: a convolution of kernel 1, no bias."""

    def __init__(self, modules: Sequence[nn.Conv2d], name: str, flat: Flat):
        _check_kernel(modules[0], name, 1)
        self._W, self._dW = (flat.view(b, f"{name}.weight")[0] for b in (flat.values, flat.gradients))

    def forward(self, x: Float[Tensor, "E c L B"]) -> Float[Tensor, "E o L B"]:
        self._x = x.flatten(2)
        return torch.bmm(self._W, self._x).unflatten(2, x.shape[2:])

    def backward(self, g: Float[Tensor, "E o L B"], wanted: bool = True) -> Tensor | None:
        flat = g.flatten(2)
        torch.bmm(flat, self._x.mT, out=self._dW)
        return torch.bmm(self._W.mT, flat).unflatten(2, g.shape[2:]) if wanted else None


class _Padded:
    """Copies of activations between two positions of zeros, in memory that is kept from batch to batch."""

    def __init__(self) -> None:
        self._views: dict[int, tuple[Tensor, tuple[Tensor, Tensor, Tensor]]] = {}

    def shifted(self, x: Float[Tensor, "E C L B"]) -> tuple[Tensor, Tensor, Tensor]:
        """x_{l-1}, x_l and x_{l+1}, zero beyond the ends, each (E, C, L B): views of one copy."""
        E, C, L, B = x.shape
        if B not in self._views:
            # A product accumulates into memory without holes alone, so the holes are on the factor's side.
            whole = x.new_zeros(E, C, (L + 2) * B)
            views = tuple(whole[..., k * B : (k + L) * B] for k in range(3))
            self._views[B] = views[1].unflatten(2, (L, B)), views
        inner, views = self._views[B]
        inner.copy_(x)
        return views


def _check_kernel(m: nn.Conv2d, name: str, kernel: int) -> None:
    shape = (m.kernel_size, m.padding, m.stride, m.dilation, m.groups, m.bias, m.padding_mode)
    if shape != ((1, kernel), (0, kernel // 2), (1, 1), (1, 1), 1, None, "zeros"):
        raise TypeError(
            f"{name}: only convolutions of kernel 1, or 3 with padding 1, without bias can be stacked"
        )
