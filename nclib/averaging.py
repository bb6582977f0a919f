"""Weights averaged over training, and the batch normalisation statistics that such a network needs."""

import copy
from collections.abc import MutableMapping

import torch
from torch import Tensor, nn

ETA = 8
"""Weight s of t counts as about (s/t)^ETA: the mean age of what is averaged is t / (ETA + 2), a tenth."""


class WeightAverage:
    r"""The polynomial-decay average of a network's parameters over epochs (Shamir & Zhang, 2013).

    $\bar w_t = (1 - \gamma_t)\,\bar w_{t-1} + \gamma_t w_t$ with $\gamma_t = (\eta + 1)/(t + \eta)$ and
    $\eta = 8$: always an average over about the last fifth of training, however long that is. In float64. It
    lives in `state` under "average" (a checkpoint, say), and goes on from what is there.
    """

    def __init__(self, state: MutableMapping[str, object]):
        self._state = state.setdefault("average", {})

    def update(self, model: nn.Module, t: int) -> None:
        """Take in the parameters after epoch t = 1, 2, ..., every epoch once and in order.

        Raises ValueError for an epoch out of turn.
        """
        done = self._state.get("epoch", 0)
        if t != done + 1:
            raise ValueError(f"epoch {done + 1} is next, got {t}")
        gamma = (ETA + 1) / (t + ETA)
        for name, p in model.named_parameters():
            new = p.detach().double()
            self._state[name] = self._state[name].lerp(new, gamma) if t > 1 else new.clone()
        self._state["epoch"] = t

    def network(self, model: nn.Module, x: Tensor) -> nn.Module:
        """A copy of the network with the averaged parameters, its batch normalisation calibrated on x."""
        model = copy.deepcopy(model)
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(self._state[name])
        return calibrated(model, x)


def calibrated(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy in eval mode whose batch normalisation carries the statistics of x, its weights untouched."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # a plain average over the batches
    model.train()
    with torch.no_grad():
        for batch in x.split(500):
            model(batch)
    return model.eval()
