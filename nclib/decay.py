"""What weight decay falls on: every parameter, or the classifier and the features it sees."""

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor, nn

DECAYED = ("all", "last_layer", "last_layer_normalised")
"""`last_layer_normalised` penalises features scaled to unit length, as the code released with Zhu et al. (2021)
does: a constant, so that nothing but the classifier is decayed."""

Loss = Callable[[Float[Tensor, "n K"], Int[Tensor, " n"]], Float[Tensor, ""]]


def of_parameters(model: nn.Module, decayed: str, weight_decay: float) -> float | dict[str, float]:
    """What `training.make_optimizer` takes: one decay for all, or the classifier's own and zero elsewhere."""
    if decayed == "all":
        return weight_decay
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    return {name: weight_decay if name.startswith("head.") else 0.0 for name in trained}


def with_features(model: nn.Module, loss: Loss, decay: float, *, normalised: bool = False) -> Loss:
    r"""A loss to which $\frac{\mathrm{decay}}{2}$ times the batch's mean of $\|h\|^2$ is added.

    h: the input of `model.head` in the forward pass before. Over N samples that is $\frac{\lambda_H}{2}\|H\|_F^2$
    with $\lambda_H = \mathrm{decay}/N$, the penalty of the unconstrained-feature model. `normalised`: of
    $h/\|h\|$ instead. The network keeps the hook that sees h, and the last h with it: one loss a network.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen[:] = inputs

    model.head.register_forward_pre_hook(keep)

    def penalised(logits: Tensor, y: Tensor) -> Tensor:
        h = seen[0].float() if seen[0].dtype.itemsize < 4 else seen[0]
        h = nn.functional.normalize(h, dim=1) if normalised else h
        return loss(logits, y) + 0.5 * decay * h.square().sum(1).mean()

    return penalised
