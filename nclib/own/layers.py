"""What modules inside any network give in a forward pass, as one vector a sample."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

Pool = Callable[[object], Tensor]
"""From what a module gives for a batch to the vector (p,) of each of its n samples: (n, p)."""
Layers = Sequence[str] | Mapping[str, Pool]
"""Dotted names of modules, whose outputs are averaged over positions, or each with a function of its own."""
LARGEST = 16_384
"""Most dimensions of a layer: the scatter of as many takes 2 GiB in float64, and three while batches are added."""


def over_positions(output: object) -> Float[Tensor, "n p"]:
    """A vector as it is, and channels (n, p, h, w) or (n, p, t, h, w) averaged over positions, not below float32.

    Raises ValueError for anything else: of (n, a, b) it is not clear which axis is that of positions.
    """
    if not isinstance(output, Tensor):
        raise ValueError(f"gives a {type(output).__name__}, not a tensor")
    if not (output.is_floating_point() and output.ndim in (2, 4, 5)):
        raise ValueError(f"gives {output.dtype} {tuple(output.shape)}, neither (n, p) nor (n, p, h, w)")
    if output.ndim == 2:
        return output
    return output.flatten(2).mean(2, dtype=torch.promote_types(output.dtype, torch.float32))


def _averaged(module: nn.Module, output: object) -> Float[Tensor, "n p"]:
    """`over_positions` of what this module gives, whose channels stand last where it is an nn.Linear or nn.LayerNorm.

    Raises ValueError for what is neither, but has one of as many channels inside: theirs may still stand last.
    """
    if not (isinstance(output, Tensor) and output.ndim in (4, 5)):
        return over_positions(output)
    first, last = output.shape[1], output.shape[-1]
    # A norm that takes channels first, as ConvNeXt's stem has, is an nn.LayerNorm by its class too.
    if _channels(module) == last and (
        first != last or type(module) is nn.LayerNorm or isinstance(module, nn.Linear)
    ):
        return over_positions(output.movedim(-1, 1))
    inside = [name for name, m in module.named_modules() if name and _channels(m) == last != first]
    if inside:
        raise ValueError(
            f"gives {tuple(output.shape)}, and {inside[0]} in it has {last} channels, which may stand last here too"
        )
    return over_positions(output)


def _channels(module: nn.Module) -> int | None:
    """The size of the last axis of what this module gives, if it says so."""
    if isinstance(module, nn.LayerNorm):
        # Over several axes, the last of them may be one of positions.
        return module.normalized_shape[0] if len(module.normalized_shape) == 1 else None
    return module.out_features if isinstance(module, nn.Linear) else None


class LayerTap:
    """Hidden layers of a network batch by batch: what modules of it give in one forward pass.

    Made by `layers_tapped`, which removes the hooks again.
    """

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools
        self._taken: dict[str, list[Tensor]] = {name: [] for name in pools}

    @property
    def names(self) -> list[str]:
        """The layers in order."""
        return list(self._pools)

    def hook(self, name: str) -> Callable[[nn.Module, tuple, object], None]:
        """The forward hook of one layer: it keeps a copy and changes nothing."""

        def keep(module: nn.Module, _: tuple, output: object) -> None:
            self._taken[name].append(self._pooled(name, module, output))

        return keep

    def _pooled(self, name: str, module: nn.Module, output: object) -> Tensor:
        pool = self._pools[name]
        try:
            A = _averaged(module, output) if pool is over_positions else pool(output)
            if not (isinstance(A, Tensor) and A.ndim == 2 and A.is_floating_point()):
                raise ValueError("has a function that returns no floating-point tensor (n, p)")
        except ValueError as error:
            axes = (1, 2) if isinstance(output, Tensor) and output.ndim == 4 else 1
            raise ValueError(
                f"layer {name} {error}: say which numbers are a sample's, for example with "
                f"layers={{{name!r}: lambda output: output.mean({axes})}}"
            ) from error
        if A.shape[1] > LARGEST:
            raise ValueError(
                f"layer {name} has {A.shape[1]:,} dimensions, and a scatter matrix is kept of each layer: pool them to "
                f"at most {LARGEST:,}"
            )
        return A.detach().clone()  # an activation that works in place may come next

    def take(self) -> list[Float[Tensor, "n p"]]:
        """What the layers gave since it was last asked, in order; ValueError unless each was called once."""
        taken = {name: list(outputs) for name, outputs in self._taken.items()}
        for outputs in self._taken.values():
            outputs.clear()
        for name, outputs in taken.items():
            if len(outputs) != 1:
                raise ValueError(
                    f"the forward pass calls layer {name} {len(outputs)} times: a layer is measured only where it is "
                    "called once"
                )
        return [A for (A,) in taken.values()]


@contextmanager
def layers_tapped(model: nn.Module, layers: Layers) -> Iterator[LayerTap]:
    """A `LayerTap` of these layers; the hooks are removed on leaving, after an error too.

    Raises ValueError for a name that no module has, one given twice, and `features`, which tables use otherwise.
    """
    pools = _pools(layers)
    tap = LayerTap(pools)
    with ExitStack() as hooks:
        for name in pools:
            hooks.callback(_module(model, name).register_forward_hook(tap.hook(name)).remove)
        yield tap


def _pools(layers: Layers) -> dict[str, Pool]:
    if isinstance(layers, str):
        raise ValueError(f"layers must be a list of names: write [{layers!r}]")
    if not isinstance(layers, Collection):  # a generator would be empty at the second measurement
        raise ValueError(
            f"layers must be a list of names, or a mapping of names, got a {type(layers).__name__}"
        )
    for name in layers:
        if not isinstance(name, str):
            raise ValueError(f"layers must be dotted names of modules, got a {type(name).__name__}")
    pools = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, over_positions)
    if len(pools) < len(layers):
        raise ValueError(f"a layer is named twice: {', '.join(layers)}")
    for name, pool in pools.items():
        if not callable(pool):
            raise ValueError(f"layer {name} must have a function of its output, got a {type(pool).__name__}")
    return pools


def _module(model: nn.Module, name: str) -> nn.Module:
    modules = {n: m for n, m in model.named_modules(remove_duplicate=False) if n}
    if name not in modules:
        first = [n for n, _ in model.named_children()]
        shown = ", ".join(first[:10]) + (", ..." if len(first) > 10 else "")
        raise ValueError(f"{name!r} is no module of the model, which has {shown} and what is in them")
    if name == "features":
        raise ValueError(
            "tables call the classifier's input features, so that no layer can have this name: name a module inside it"
        )
    if isinstance(modules[name], torch.jit.ScriptModule):
        raise ValueError(
            f"layer {name} is scripted, which shows no outputs: measure the model before torch.jit.script"
        )
    return modules[name]
