"""The neural-collapse metrics NC1 to NC4, each published variant under a name of its own."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from nclib.geometry import simplex_gram
from nclib.stats import ClassStats

RANK_CUT = 1e-11
"""Eigenvalues of Sigma_B up to this share of the largest count as zero, for rank and pseudo-inverse alike."""

# Of pairs of means, 1 MiB that stays in the cache: at K = 1000 all of them would take gigabytes.
_IN_FLIGHT = 2**17


@dataclass(frozen=True)
class Head:
    """The last layer's linear classifier, argmax_k (W h + b)_k."""

    W: Float[Tensor, "K d"]
    """Classifier rows."""
    b: Float[Tensor, " K"] | None = None
    """Bias; None where the layer has none, which decides like 0."""


@dataclass(frozen=True)
class Decisions:
    """What the nearest-class-mean rule and the classifier decided, counted over N samples."""

    N: int
    """Samples decided on."""
    ncc_correct: int
    """Samples whose nearest class mean is their label's."""
    mismatches: int | None
    """Samples on which the classifier and the nearest-class-mean rule differ; None without a classifier."""

    @classmethod
    def of(
        cls, stats: ClassStats, head: Head | None, features: Num[Tensor, "n d"], labels: Int[Tensor, " n"]
    ) -> "Decisions":
        """Decisions about one batch by the means in `stats`: the second pass over a stream."""
        H = features.double()
        scores = None if head is None else H @ head.W.T
        return cls.from_coordinates(H - stats.mu_G, stats.M, labels, scores, head)

    @classmethod
    def from_coordinates(cls, X: Tensor, M: Tensor, labels: Tensor, scores: Tensor | None, head: Head | None):
        """The same from samples X and means M given about mu_G, in coordinates that contain every mean."""
        nearest = nearest_means(X, M)
        mismatches = None
        if scores is not None:
            decided = (scores if head.b is None else scores + head.b).argmax(1)
            mismatches = int((decided != nearest).sum())
        return cls(len(labels), int((nearest == labels).sum()), mismatches)

    def __add__(self, other: "Decisions") -> "Decisions":
        both = self.mismatches is not None and other.mismatches is not None
        return Decisions(
            self.N + other.N,
            self.ncc_correct + other.ncc_correct,
            self.mismatches + other.mismatches if both else None,
        )


def nearest_means(X: Float[Tensor, "n d"], M: Float[Tensor, "K d"]) -> Int[Tensor, " n"]:
    """The row of M nearest to each row of X; both about mu_G, for an offset would cancel in the squares."""
    # |x - m|^2 up to |x|^2, which is the same for every class.
    return torch.addmm(M.square().sum(1).expand(len(X), -1), X, M.T, alpha=-2).argmin(1)


def rounding_of_means(stats: ClassStats) -> Float[Tensor, ""]:
    """How far apart the means can come out where they coincide: such differences are no directions."""
    # Sums round by their terms, however near to zero they end: means at the origin by the scatter about it.
    size = torch.maximum(stats.mu.abs().max(), (stats.within / stats.n.clamp(min=1)).max().sqrt())
    return torch.finfo(stats.mu.dtype).eps * max(stats.mu.shape) * size


def centred_means(stats: ClassStats) -> Float[Tensor, "K d"]:
    r"""`stats.M`, with exact zeros for what is rounding alone: a mean that lies on $\mu_G$, or all that coincide.

    What has no size or no direction then comes out as 0/0, NaN, instead of as the shape of rounding errors. Where
    only some means lie on $\mu_G$ their norms are 0 and their cosines NaN.
    """
    norms, rounding = torch.linalg.vector_norm(stats.M, dim=1, keepdim=True), rounding_of_means(stats)
    # Of at most K - 1 eigenvalues the largest is no smaller than Tr Sigma_B/(K - 1), which mostly saves the SVD.
    if norms.square().sum() / stats.K <= (stats.K - 1) * rounding.square() and sigma_b_rank(stats) == 0:
        return torch.zeros_like(stats.M)
    return torch.where(norms > rounding, stats.M, 0)


def class_mean_spectrum(
    stats: ClassStats, centred_means: Float[Tensor, "K d"]
) -> tuple[Float[Tensor, " r"], Float[Tensor, "r d"]]:
    """Singular values S (above the cut) and right singular vectors V of centred means.

    At most K - 1 are above `RANK_CUT` of the largest $S^2$ and above what rounding leaves of equal means.
    """
    _, S, Vh = torch.linalg.svd(centred_means, full_matrices=False)
    keep = (S.square() > RANK_CUT * S[0].square()) & (rounding_of_means(stats) < S)
    keep[stats.K - 1 :] = False
    return S[keep], Vh[keep]


def _spectrum(stats: ClassStats) -> tuple[Float[Tensor, " r"], Float[Tensor, "r d"]]:
    return class_mean_spectrum(stats, stats.M / stats.K**0.5)


def _nc1(stats: ClassStats, S: Float[Tensor, " r"], V: Float[Tensor, "r d"]) -> Float[Tensor, ""]:
    if len(S) == 0:
        return S.new_tensor(torch.nan)
    return (stats.within_along(V).diagonal() / S.square()).sum() / stats.K


def _weighted_means(stats: ClassStats) -> Float[Tensor, "K d"]:
    return _about_sample_mean(stats) * (stats.n / stats.n.sum()).sqrt()[:, None]


def _about_sample_mean(stats: ClassStats) -> Float[Tensor, "K d"]:
    return stats.require_every_class().mu - stats.mu_S


def nc1_pinv(stats: ClassStats) -> Float[Tensor, ""]:
    r"""Within- against between-class variability, $\mathrm{Tr}(\Sigma_W\Sigma_B^\dagger)/K$, class-centred.

    Zero at collapse, but blind to scatter orthogonal to the class means: see `nc1_trace_ratio`. Unchanged by
    rotation, scale and shift. NaN when all class means coincide. Papyan, Han & Donoho (2020; C for K).
    """
    return _nc1(stats, *_spectrum(stats))


def nc1_pinv_sample_centred(stats: ClassStats) -> Float[Tensor, ""]:
    r"""`nc1_pinv` with the unweighted $\Sigma_B$ taken about the sample mean, as in Zhu et al. (2021)."""
    return _nc1(stats, *class_mean_spectrum(stats, _about_sample_mean(stats) / stats.K**0.5))


def nc1_pinv_weighted(stats: ClassStats) -> Float[Tensor, ""]:
    r"""`nc1_pinv` with $\Sigma_B = \sum_k \frac{n_k}{N}(\mu_k-\mu_S)(\mu_k-\mu_S)^\top$.

    The only variant whose $\Sigma_W + \Sigma_B$ is the total covariance when classes are unbalanced.
    """
    return _nc1(stats, *class_mean_spectrum(stats, _weighted_means(stats)))


def sigma_b_rank(stats: ClassStats) -> int:
    r"""Rank of the class-centred $\Sigma_B$: eigenvalues above 1e-11 of the largest, at most $K-1$."""
    return len(_spectrum(stats)[0])


def _trace_ratio(
    variability: Float[Tensor, ""], stats: ClassStats, centred_means: Float[Tensor, "K d"]
) -> Float[Tensor, ""]:
    trace_Sigma_B = centred_means.square().sum()
    apart = trace_Sigma_B.sqrt() > rounding_of_means(stats)
    return torch.where(apart, variability / trace_Sigma_B, torch.nan)


def over_trace_Sigma_B(variability: Float[Tensor, ""], stats: ClassStats) -> Float[Tensor, ""]:
    r"""A mean squared distance over $\mathrm{Tr}\,\Sigma_B$, class-centred and unweighted; NaN when means coincide."""
    return _trace_ratio(variability, stats, stats.M / stats.K**0.5)


def nc1_trace_ratio(stats: ClassStats) -> Float[Tensor, ""]:
    r"""$\mathrm{Tr}\,\Sigma_W / \mathrm{Tr}\,\Sigma_B$, class-centred and unweighted (Tirer et al., 2023).

    Zero if and only if every class has collapsed to its mean. NaN when all class means coincide.
    """
    return over_trace_Sigma_B(stats.trace_Sigma_W, stats)


def nc1_trace_ratio_weighted(stats: ClassStats) -> Float[Tensor, ""]:
    r"""`nc1_trace_ratio` with $\Sigma_B$ weighted by $n_k/N$ about the sample mean.

    The Calinski-Harabasz score is its inverse times $(N-K)/(K-1)$.
    """
    return _trace_ratio(stats.trace_Sigma_W, stats, _weighted_means(stats))


def norm_cv(V: Float[Tensor, "K d"]) -> Float[Tensor, ""]:
    """Coefficient of variation of the row norms, std/mean with ddof 1: zero iff equinorm (Papyan, fig. 2).

    NaN where all rows are zero.
    """
    norms = torch.linalg.vector_norm(V, dim=1)
    return norms.std() / norms.mean()


def _pair_cosines(V: Float[Tensor, "K d"]) -> Float[Tensor, " pairs"]:
    U = V / torch.linalg.vector_norm(V, dim=1, keepdim=True)
    i, j = torch.triu_indices(len(V), len(V), offset=1, device=V.device)
    return (U @ U.T)[i, j]


def cos_std(V: Float[Tensor, "K d"]) -> Float[Tensor, ""]:
    """Standard deviation (ddof 1) of the cosines of unordered pairs: zero iff equiangular (Papyan, fig. 3).

    NaN at K = 2, where there is one pair, and where a row is zero.
    """
    cosines = _pair_cosines(V)
    return cosines.std() if len(cosines) > 1 else cosines.new_tensor(torch.nan)


def cos_dev(V: Float[Tensor, "K d"]) -> Float[Tensor, ""]:
    r"""Mean over pairs of $|\cos + 1/(K-1)|$: zero iff angles are maximal (Papyan, fig. 4).

    NaN where a row is zero.
    """
    return (_pair_cosines(V) + 1 / (len(V) - 1)).abs().mean()


def etf_distance(gram: Float[Tensor, "K K"]) -> Float[Tensor, ""]:
    r"""Distance from a simplex, $\|G/\|G\|_F - (I - 11^\top/K)/\sqrt{K-1}\|_F$ (Zhu et al., 2021).

    NaN where G is zero.
    """
    simplex = simplex_gram(len(gram)).to(gram)
    return torch.linalg.matrix_norm(
        gram / torch.linalg.matrix_norm(gram) - simplex / torch.linalg.matrix_norm(simplex)
    )


def nc3_frobenius(W: Float[Tensor, "K d"], M: Float[Tensor, "K d"]) -> Float[Tensor, ""]:
    r"""$\|W/\|W\|_F - M/\|M\|_F\|_F$, not squared (Papyan, fig. 5, squares it). NaN where W or M is zero."""
    return torch.linalg.matrix_norm(W / torch.linalg.matrix_norm(W) - M / torch.linalg.matrix_norm(M))


def nc3_cosine(W: Float[Tensor, "K d"], M: Float[Tensor, "K d"]) -> Float[Tensor, ""]:
    r"""$1 - \frac1K\sum_k \cos(w_k, \mu_k - \mu_G)$ (Jiang et al., 2023). NaN where a row is zero."""
    return 1 - torch.nn.functional.cosine_similarity(W, M, dim=1, eps=0).mean()


def _mean_logits(stats: ClassStats, W: Float[Tensor, "K d"], M: Float[Tensor, "K d"]) -> Float[Tensor, "K K"]:
    """W M^T, exactly zero where W is orthogonal to all means: the products' rounding has no shape."""
    logits = W @ M.T
    apart = torch.linalg.matrix_norm(logits) > rounding_of_means(stats) * torch.linalg.matrix_norm(W)
    return torch.where(apart, logits, 0)


def cdnv(stats: ClassStats) -> Float[Tensor, ""]:
    r"""Class-distance normalised variance, mean over $i \ne j$ of $(s_i + s_j)/(2\|\mu_i - \mu_j\|^2)$.

    $s_k$ is the mean squared distance of class k to its mean. Infinite when two means coincide, NaN when the two
    classes have no scatter either. Galanti, György & Hutter (2022).
    """
    s = stats.require_every_class().within / stats.n
    i, j = torch.triu_indices(stats.K, stats.K, offset=1, device=s.device)
    pairs = max(1, _IN_FLIGHT // stats.mu.shape[1])
    blocks = zip(i.split(pairs), j.split(pairs), strict=True)
    distance = torch.cat([(stats.mu[a] - stats.mu[b]).square().sum(1) for a, b in blocks])
    distance = torch.where(distance > rounding_of_means(stats).square(), distance, 0)
    return ((s[i] + s[j]) / (2 * distance)).mean()


def collapse_metrics(stats: ClassStats, decisions: Decisions, head: Head | None = None) -> dict[str, float]:
    """Every metric under its fixed name, from statistics and decisions; a classifier's only with a `head`.

    NC1, NC2 of the means and NC3 are NaN when all class means coincide up to rounding; when only some lie on their
    mean `mu_G`, that holds for those made of cosines.
    """
    stats.require_every_class()
    M = centred_means(stats)
    S, V = _spectrum(stats)  # once: an SVD of a thousand means takes seconds
    nc1 = _nc1(stats, S, V)
    values = {
        "nc1_pinv": nc1,
        "nc1_pinv_sample_centred": nc1 if stats.balanced else nc1_pinv_sample_centred(stats),  # mu_S is mu_G
        "nc1_pinv_weighted": nc1_pinv_weighted(stats),
        "nc1_trace_ratio": nc1_trace_ratio(stats),
        "nc1_trace_ratio_weighted": nc1_trace_ratio_weighted(stats),
        "sigma_b_rank": len(S),
        "nc2_norm_cv_means": norm_cv(M),
        "nc2_cos_std_means": cos_std(M),
        "nc2_cos_dev_means": cos_dev(M),
        "nc2_etf_means": etf_distance(M @ M.T),
        "ncc_accuracy": decisions.ncc_correct / decisions.N,
        "cdnv": cdnv(stats),
    }
    if head is not None:
        values |= {
            "nc2_norm_cv_weights": norm_cv(head.W),
            "nc2_cos_dev_weights": cos_dev(head.W),
            "nc2_etf_weights": etf_distance(head.W @ head.W.T),
            "nc3_frobenius": nc3_frobenius(head.W, M),
            "nc3_etf": etf_distance(_mean_logits(stats, head.W, M)),
            "nc3_cosine": nc3_cosine(head.W, M),
            "nc4_mismatch": decisions.mismatches / decisions.N,
        }
        if head.b is not None:
            values["bias_collapse"] = torch.linalg.vector_norm(head.W @ stats.mu_S + head.b)
    return {name: float(value) for name, value in values.items()}
