"""The parameters of E networks in one buffer: an update of it updates all of them."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

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
