"""E networks and their optimisers as one: a step on a batch each, and what it changed given back."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nclib.stacking.assembly import stacked
from nclib.stacking.batch_norm import RunningStatistics
from nclib.stacking.flat import Flat


class StackedNetwork:
    """E networks of one shape, each a trunk and a linear head, with the cross-entropy of each on its own batch.

    Raises TypeError, naming the module, when the networks have a layer that has no stacked form.
    """

    def __init__(self, models: Sequence[nn.Module]):
        self.flat = Flat(models)
        self._trunk = stacked([m.trunk for m in models], "trunk", self.flat)
        self._head = stacked([m.head for m in models], "head", self.flat)
        self._running = RunningStatistics(self._trunk.norms)

    def losses_and_gradients(self, x: Float[Tensor, "E c L B"], y: Int[Tensor, "E B"]) -> Float[Tensor, " E"]:
        """Every network's mean cross-entropy over its batch; its gradient goes into `flat.gradients`."""
        logits = self._head.forward(self._trunk.forward(x))
        self._running.update()
        log_p = torch.log_softmax(logits, dim=1)
        own = y.unsqueeze(1)
        losses = -log_p.gather(1, own).mean((1, 2))
        g = log_p.exp_()
        g.scatter_add_(1, own, g.new_full((), -1.0).expand(own.shape))
        self._trunk.backward(self._head.backward(g.div_(y.shape[1])), wanted=False)
        return losses

    def store(self, e: int) -> None:
        """Copy network e's parameters and running statistics back into its module."""
        self.flat.store(e)
        self._running.store(e)


class StackedOptimizer:
    """SGD with momentum, Adam and AdamW on the flat buffers, one kind, rate and decay a network.

    Takes its settings and state from torch's own optimisers, one a network with a single parameter group, and
    gives the state back to them: what a checkpoint holds does not depend on who was in the stack. A network
    of another kind than the update at hand has rate 0 in it, and is left alone.
    """

    def __init__(self, flat: Flat, models: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]):
        self._flat, self._optimizers = flat, optimizers
        self._names = [{id(p): name for name, p in model.named_parameters()} for model in models]
        groups = [optimizer.param_groups[0] for optimizer in optimizers]
        self._sgd = [type(optimizer) is torch.optim.SGD for optimizer in optimizers]
        decoupled = [group.get("decoupled_weight_decay", False) for group in groups]
        decays = [group["weight_decay"] for group in groups]
        self._coupled_decay = flat.spread([0.0 if d else w for w, d in zip(decays, decoupled, strict=True)])
        self._decoupled_decay = [w if d else 0.0 for w, d in zip(decays, decoupled, strict=True)]
        self._rates: tuple[float, ...] | None = None
        self._buffers: dict[str, Tensor] = {}
        self.steps = max(map(self.steps_of, optimizers))
        if any(self._sgd):
            self._momentum = flat.spread([group.get("momentum", 0.0) for group in groups])
            self._buffers["momentum_buffer"] = torch.zeros_like(flat.values)
        if not all(self._sgd):
            betas = {(*g["betas"], g["eps"]) for g in groups if "betas" in g}
            (self._beta1, self._beta2, self._eps), *others = betas
            if others:
                raise TypeError("networks of a stack share Adam's betas and epsilon")
            self._buffers |= {name: torch.zeros_like(flat.values) for name in ("exp_avg", "exp_avg_sq")}
        self._load()

    @staticmethod
    def takes(optimizer: torch.optim.Optimizer) -> bool:
        """Whether this optimiser's update is one of those written here."""
        plain = {"nesterov": False, "dampening": 0, "amsgrad": False, "maximize": False}
        return (
            type(optimizer) in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
            and len(optimizer.param_groups) == 1
            and all(optimizer.param_groups[0].get(name, value) == value for name, value in plain.items())
        )

    @staticmethod
    def steps_of(optimizer: torch.optim.Optimizer) -> int:
        """How many updates this optimiser counts: Adam's depend on it."""
        return max((int(state["step"]) for state in optimizer.state.values() if "step" in state), default=0)

    def set_rates(self, rates: Sequence[float]) -> None:
        """The learning rate of every network from now on."""
        if self._rates == tuple(rates):
            return
        self._rates = tuple(rates)

        def part(chosen: Sequence[bool]) -> Tensor:
            return self._flat.spread([-r if c else 0.0 for r, c in zip(rates, chosen, strict=True)])

        if any(self._sgd):
            self._sgd_step = part(self._sgd)
        if not all(self._sgd):
            self._adam_step = part([not s for s in self._sgd])
            shrink = [1 - r * w for r, w in zip(rates, self._decoupled_decay, strict=True)]
            self._shrink = self._flat.spread(shrink) if any(self._decoupled_decay) else None

    def step(self) -> None:
        """One update of all networks."""
        p, g = self._flat.values, self._flat.gradients
        self.steps += 1
        if any(self._decoupled_decay):
            p.mul_(self._shrink)
        g.addcmul_(p, self._coupled_decay)
        if any(self._sgd):
            buffer = self._buffers["momentum_buffer"].mul_(self._momentum).add_(g)
            p.addcmul_(buffer, self._sgd_step)
        if not all(self._sgd):
            m = self._buffers["exp_avg"].lerp_(g, 1 - self._beta1)
            v = self._buffers["exp_avg_sq"].mul_(self._beta2).addcmul_(g, g, value=1 - self._beta2)
            root = v.sqrt().div_((1 - self._beta2**self.steps) ** 0.5).add_(self._eps)
            p.addcdiv_(m * self._adam_step, root, value=1 / (1 - self._beta1**self.steps))

    def store(self, e: int) -> None:
        """Copy network e's part of the state back into its own optimiser."""
        optimizer = self._optimizers[e]
        names = ("momentum_buffer",) if self._sgd[e] else ("exp_avg", "exp_avg_sq")
        parts = {name: self._flat.of(self._buffers[name], e) for name in names}
        for p in optimizer.param_groups[0]["params"]:
            # in its parameter's own order in memory, which torch's fused updates take for granted
            state = {
                name: torch.empty_like(p).copy_(part[self._names[e][id(p)]]) for name, part in parts.items()
            }
            if not self._sgd[e]:
                state["step"] = torch.tensor(float(self.steps))
            optimizer.state[p] = state

    def _load(self) -> None:
        for e, optimizer in enumerate(self._optimizers):
            for p in optimizer.param_groups[0]["params"]:
                state = optimizer.state.get(p, {})
                for name in self._buffers.keys() & state.keys():
                    if state[name] is not None:
                        self._flat.of(self._buffers[name], e)[self._names[e][id(p)]].copy_(state[name])
