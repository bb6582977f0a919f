"""Initial weights, drawn from a generator that the caller owns.

PyTorch's layers draw from the global generator when they are built, so that a network depends on whatever ran
before it. Here layers are first built without values (`blank`), and a whole network is then filled, module by
module in the order of registration, from one `torch.Generator` on the CPU.
"""

from math import sqrt

import torch
from torch import nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d)


def blank(layer: type[nn.Module], *args, **kwargs) -> nn.Module:
    """A layer on the CPU whose parameters hold no values yet, built without drawing from any generator."""
    return nn.utils.skip_init(layer, *args, **kwargs)


def torch_default(network: nn.Module, generator: torch.Generator) -> None:
    r"""Fill a network as PyTorch's own constructors would: $U(-1/\sqrt{f}, 1/\sqrt{f})$ with $f$ the fan-in.

    Weights and biases of convolutions and linear layers follow that law; batch normalisation starts at
    scale 1 and shift 0, with running mean 0 and variance 1. Raises TypeError for a module of another kind
    with parameters.
    """
    for module in network.modules():
        if isinstance(module, (*_CONVOLUTIONS, nn.Linear)):
            _uniform_by_fan_in(module, generator)
        else:
            _without_chance(module)


def torchvision_resnet(network: nn.Module, generator: torch.Generator) -> None:
    r"""Fill a network as torchvision fills its ResNets (He et al., 2015).

    Convolutions, which have no bias, are $N(0, 2/f)$ with $f$ the kernel's area times the output channels
    ("kaiming normal", fan-out, ReLU); linear layers and batch normalisation as in `torch_default`.
    """
    for module in network.modules():
        if isinstance(module, _CONVOLUTIONS):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            _uniform_by_fan_in(module, generator)
        else:
            _without_chance(module)


def torchvision_vgg(network: nn.Module, generator: torch.Generator) -> None:
    """Fill a network as torchvision fills its VGGs: convolutions as in `torchvision_resnet`.

    Linear layers are $N(0, 0.01^2)$ with bias 0, batch normalisation as in `torch_default`.
    """
    for module in network.modules():
        if isinstance(module, _CONVOLUTIONS):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01, generator=generator)
            nn.init.zeros_(module.bias)
        else:
            _without_chance(module)


def torchvision_densenet(network: nn.Module, generator: torch.Generator) -> None:
    r"""Fill a network as torchvision fills its DenseNets: convolutions are $N(0, 2/f)$ with $f$ the fan-in.

    Linear layers as in `torch_default` but with bias 0, batch normalisation as there.
    """
    for module in network.modules():
        if isinstance(module, _CONVOLUTIONS):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            _uniform_by_fan_in(module, generator)
            nn.init.zeros_(module.bias)
        else:
            _without_chance(module)


def _uniform_by_fan_in(module: nn.Module, generator: torch.Generator) -> None:
    bound = 1 / sqrt(module.weight[0].numel())
    nn.init.uniform_(module.weight, -bound, bound, generator=generator)
    if module.bias is not None:
        nn.init.uniform_(module.bias, -bound, bound, generator=generator)


def _without_chance(module: nn.Module) -> None:
    if isinstance(module, _NORMALISATIONS):
        module.reset_parameters()
    elif next(module.parameters(recurse=False), None) is not None:
        # Silence here would leave a parameter with whatever memory held.
        raise TypeError(f"no initialisation is defined for {type(module).__name__}")
