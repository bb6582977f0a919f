r"""Layers of E one-dimensional networks at once, their gradients written out by hand.

Activations are (E, C, L, B): networks, channels, positions, samples, contiguous. Samples come last, so that a
shift by one position is a shift by B in memory: a convolution is three matrix products on shifted views, and
one channel of one network is one contiguous row, which batch normalisation reduces. No two networks meet in
any operation: what one computes does not depend on which others are there.

A layer keeps from `forward` what `backward` needs. `backward` takes the gradient at the layer's output, writes
the gradients of the layer's parameters where `Flat` has put them, and returns the gradient at its input, or
None where that is not `wanted`.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nclib.models.mnist1d import AsImage, ResidualBlock1D
from nclib.models.network import ChannelsLast, SpatialMean

_VECTOR = 64


class Flat:
    """The parameters of E networks of one shape in one buffer, `values`, and their gradients in another.

    Parameter by parameter; within one, network by network. A convolution's kernel (o, c, 1, taps), of one tap
    or three, is kept as (taps, E, o, c), so that each tap is a matrix.
    """

    def __init__(self, models: Sequence[nn.Module]):
        self.E = len(models)
        self._parameters = [dict(model.named_parameters()) for model in models]
        self._shapes = {name: p.shape for name, p in self._parameters[0].items()}
        for name, shape in self._shapes.items():
            if len(shape) > 2 and tuple(shape[2:]) not in ((1, 1), (1, 3)):
                raise TypeError(f"{name}: only kernels of size 1 or 3 along one axis can be stacked")
        sizes = [self.E * shape.numel() for shape in self._shapes.values()]
        self._starts = dict(zip(self._shapes, accumulate(sizes, initial=0), strict=False))
        # Whole vectors of any processor: the odd entries at an end would be rounded in another way.
        room = -(-sum(sizes) // _VECTOR) * _VECTOR
        self.values = next(iter(self._parameters[0].values())).detach().new_zeros(room)
        self.gradients = torch.zeros_like(self.values)
        self.pack(self.values, self._parameters)

    def view(self, buffer: Tensor, name: str) -> Tensor:
        """The part of a buffer that belongs to the parameter `name` of all networks."""
        shape, start = self._shapes[name], self._starts[name]
        part = buffer[start : start + self.E * shape.numel()]
        return part.view(shape[3], self.E, *shape[:2]) if len(shape) == 4 else part.view(self.E, *shape)

    def of(self, buffer: Tensor, e: int) -> dict[str, Tensor]:
        """Views of network e's part of a buffer, by name, each of its parameter's own shape."""
        views = {}
        for name, shape in self._shapes.items():
            part = self.view(buffer, name)
            views[name] = part[:, e].permute(1, 2, 0).unsqueeze(2) if len(shape) == 4 else part[e]
        return views

    def pack(self, buffer: Tensor, each: Sequence[dict[str, Tensor]]) -> None:
        """Copy the E networks' tensors, by name and of their parameters' shapes, into a buffer."""
        for e, tensors in enumerate(each):
            for name, part in self.of(buffer, e).items():
                part.copy_(tensors[name].detach())

    def spread(self, numbers: Sequence[float]) -> Tensor:
        """A buffer in which every entry of network e holds the e-th number."""
        buffer = torch.zeros_like(self.values)
        each = buffer.new_tensor(numbers)
        for name in self._shapes:
            part = self.view(buffer, name)
            part.movedim(1 if len(self._shapes[name]) == 4 else 0, -1).copy_(each)
        return buffer

    def store(self, e: int) -> None:
        """Copy network e's values back into its own parameters."""
        for name, value in self.of(self.values, e).items():
            self._parameters[e][name].detach().copy_(value)


class Layer:
    """What every layer does; `norms` are the batch normalisations in it."""

    norms: "Sequence[BatchNorm]" = ()

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output; what the gradient needs of it is kept."""
        raise NotImplementedError

    def backward(self, g: Tensor, wanted: bool = True) -> Tensor | None:
        """From the gradient at the output to that at the input; the parameters' on the way."""
        raise NotImplementedError


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


class BatchNorm(Layer):
    """y = gamma (x - mean) / sqrt(var + eps) + beta, mean and var over the positions and samples of a batch.

    The batch's `mean`, `rstd` = 1 / sqrt(var + eps) and `count` are left for `RunningStatistics`.
    """

    def __init__(self, modules: Sequence[nn.BatchNorm2d], name: str, flat: Flat):
        m = modules[0]
        if not (m.affine and m.track_running_stats and m.momentum is not None):
            raise TypeError(f"{name}: only affine batch normalisation with running statistics can be stacked")
        self.norms, self.modules, self.eps, self.momentum = [self], modules, m.eps, m.momentum
        self.gamma, self.dgamma = (
            flat.view(b, f"{name}.weight").view(-1) for b in (flat.values, flat.gradients)
        )
        self.beta, self.dbeta = (flat.view(b, f"{name}.bias").view(-1) for b in (flat.values, flat.gradients))

    def forward(self, x: Float[Tensor, "E C L B"]) -> Float[Tensor, "E C L B"]:
        R, S = x.shape[0] * x.shape[1], x.shape[2] * x.shape[3]
        self._x = x.view(1, R, S)
        # Group normalisation of one sample in groups of one channel reduces the rows that a batch
        # normalisation reduces, and does it five times faster on a CPU than `native_batch_norm`.
        y, mean, rstd = torch.native_group_norm(self._x, self.gamma, self.beta, 1, R, S, R, self.eps)
        self.mean, self.rstd, self.count = mean.view(R), rstd.view(R), S
        return y.view(x.shape)

    def backward(self, g: Float[Tensor, "E C L B"], wanted: bool = True) -> Tensor:
        h, dgamma, dbeta = torch.ops.aten.native_batch_norm_backward(
            g.view(self._x.shape), self._x, self.gamma, None, None, self.mean, self.rstd, True, self.eps,
            (True, True, True),
        )  # fmt: skip
        self.dgamma.copy_(dgamma)
        self.dbeta.copy_(dbeta)
        return h.view(g.shape)


class RunningStatistics:
    """The exponential averages of all batch normalisations of E networks, updated together."""

    def __init__(self, norms: Sequence[BatchNorm]):
        settings = {(norm.momentum, norm.eps) for norm in norms}
        if len(settings) != 1:
            raise TypeError("only networks with one kind of batch normalisation can be stacked")
        (self._momentum, self._eps), self._norms = settings.pop(), norms
        self._mean = torch.cat([m.running_mean for norm in norms for m in norm.modules])
        self._var = torch.cat([m.running_var for norm in norms for m in norm.modules])
        self._begun = [[int(m.num_batches_tracked) for m in norm.modules] for norm in norms]
        self._batches = 0
        self._unbiased: dict[tuple[int, ...], Tensor] = {}

    def update(self) -> None:
        """Take the statistics of the batch that was normalised last."""
        counts = tuple(norm.count for norm in self._norms)
        if counts not in self._unbiased:
            factors = [
                norm.mean.new_full(norm.mean.shape, norm.count / (norm.count - 1)) for norm in self._norms
            ]
            self._unbiased[counts] = torch.cat(factors)
        rstd = torch.cat([norm.rstd for norm in self._norms])
        var = rstd.pow_(-2).sub_(self._eps).mul_(self._unbiased[counts])
        self._mean.lerp_(torch.cat([norm.mean for norm in self._norms]), self._momentum)
        self._var.lerp_(var, self._momentum)
        self._batches += 1

    def store(self, e: int) -> None:
        """Copy network e's averages back into its own modules."""
        start = 0
        for norm, begun in zip(self._norms, self._begun, strict=True):
            m, C = norm.modules[e], norm.modules[e].num_features
            own = slice(start + e * C, start + (e + 1) * C)
            m.running_mean.copy_(self._mean[own])
            m.running_var.copy_(self._var[own])
            m.num_batches_tracked.fill_(begun[e] + self._batches)
            start += len(norm.modules) * C


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


def _check_kernel(m: nn.Conv2d, name: str, kernel: int) -> None:
    shape = (m.kernel_size, m.padding, m.stride, m.dilation, m.groups, m.bias, m.padding_mode)
    if shape != ((1, kernel), (0, kernel // 2), (1, 1), (1, 1), 1, None, "zeros"):
        raise TypeError(
            f"{name}: only convolutions of kernel 1, or 3 with padding 1, without bias can be stacked"
        )


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
