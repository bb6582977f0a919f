"""The unconstrained-feature model: the features themselves are the parameters."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nclib.models.initialise import blank


class UnconstrainedFeatures(nn.Module):
    r"""Free features $H$ and a linear classifier, $z_i = W h_i + b$ (Mixon et al., 2020; Zhu et al., 2021).

    Parameters: `H` of shape (N, d), one row per sample, so that the papers' d x N matrix is its transpose;
    `head.weight` = W of shape (K, d); `head.bias` = b of shape (K,), absent with `bias=False`. N =
    num_classes * per_class, and sample i belongs to class i // per_class: see `labels`. All entries start
    as N(0, scale^2), drawn from `generator` in the order W, b, H. float64 unless `dtype` says otherwise.

    A "batch" of inputs is a batch of sample indices, so that this trains like any other network.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        per_class: int,
        feature_dim: int,
        bias: bool = True,
        scale: float = 1.0,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
    ):
        sizes = {"num_classes": num_classes, "per_class": per_class, "feature_dim": feature_dim}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        super().__init__()
        self.head = blank(nn.Linear, feature_dim, num_classes, bias=bias, dtype=dtype)
        self.H = nn.Parameter(torch.empty(num_classes * per_class, feature_dim, dtype=dtype))
        self.register_buffer("labels", torch.arange(num_classes).repeat_interleave(per_class))
        for parameter in (*self.head.parameters(), self.H):
            nn.init.normal_(parameter, std=scale, generator=generator)

    @property
    def feature_dim(self) -> int:
        """Dimension d of the features."""
        return self.head.in_features

    def features(self, index: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """The rows of H of these samples."""
        return self.H.index_select(0, index)

    def layers(self, index: Int[Tensor, " n"]) -> dict[str, Tensor]:
        """The only layer there is, `features`."""
        return {"features": self.features(index)}

    def forward(self, index: Int[Tensor, " n"]) -> Float[Tensor, "n K"]:
        """Logits, H[index] W^T + b."""
        return self.head(self.features(index))
