"""How a linear classifier does on features: error, cross-entropy and margins, batch by batch."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nclib.metrics.nc import Head


@dataclass(frozen=True)
class Classification:
    """Error, cross-entropy and the one-versus-rest margin z_y - max_{k != y} z_k of N samples, to be added up."""

    N: int
    wrong: int
    loss: float
    """Summed cross-entropy, in nats."""
    margin_sum: float
    margin_min: float

    @classmethod
    def of(cls, head: Head, H: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> "Classification":
        """One batch, its logits W h + b in float64."""
        logits = H.double() @ head.W.T
        if head.b is not None:
            logits += head.b
        own = logits.gather(1, y[:, None]).squeeze(1)
        margin = own - logits.scatter(1, y[:, None], -torch.inf).amax(1)
        loss = nn.functional.cross_entropy(logits, y, reduction="sum")
        wrong = (logits.argmax(1) != y).sum()
        return cls(len(y), int(wrong), float(loss), float(margin.sum()), float(margin.min()))

    def __add__(self, other: "Classification") -> "Classification":
        return Classification(
            self.N + other.N,
            self.wrong + other.wrong,
            self.loss + other.loss,
            self.margin_sum + other.margin_sum,
            # NaN, which is not itself, comes before all others: in whatever order, none is lost
            min(self.margin_min, other.margin_min, key=lambda margin: (margin == margin, margin)),
        )

    def metrics(self) -> dict[str, float]:
        """Means over the samples, and the smallest margin."""
        error, loss, margin = self.wrong / self.N, self.loss / self.N, self.margin_sum / self.N
        return {"error": error, "loss": loss, "margin_mean": margin, "margin_min": self.margin_min}
