"""Networks in general position with data of their own, for the tests of nclib.stacking: float64, seeded."""

import torch
from samplers import generator, normal

from nclib.models import build
from nclib.models.initialise import torch_default

CLASSES, LENGTH, N = 4, 12, 29
NETWORKS = {"resnet1d": {"width": 3}, "projector": {"width": 3, "feature_dim": 2}, "cnn1d": {"width": 2}}


def perturbed(module, seed):
    """In general position: normalisation begins at 1 and 0, where mistakes hide."""
    g = generator(1000 + seed)
    torch_default(module, g)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=g, dtype=tensor.dtype) / 3)
            else:
                tensor.add_(3 + seed)
    return module


def network(kind="resnet1d", seed=0):
    name = "resnet1d" if kind == "projector" else kind
    model = build(name, num_classes=CLASSES, generator=generator(seed), **NETWORKS[kind])
    return perturbed(model.double(), seed)


def samples(seed):
    """Every network has data of its own, so that a mix-up shows."""
    x = normal(N, 1, LENGTH, seed=50 + seed)
    return x, torch.randint(CLASSES, (N,), generator=generator(60 + seed))


def largest(a, b):
    """The largest difference between tensors of the same names."""
    assert a.keys() == b.keys(), a.keys() ^ b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def state_of(model, optimizer):
    """All that training changes in a network and its optimiser, by name."""
    found = dict(model.state_dict())
    for name, p in model.named_parameters():
        state = optimizer.state.get(p, {})
        found |= {f"{name} {key}": value for key, value in state.items() if torch.is_tensor(value)}
    return {name: value.clone() for name, value in found.items()}


def states(models, optimizers):
    return [state_of(*pair) for pair in zip(models, optimizers, strict=True)]


def furthest(some, others):
    return max(largest(a, b) for a, b in zip(some, others, strict=True))
