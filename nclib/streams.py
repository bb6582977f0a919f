"""From labelled features in batches to every number that is measured of them, in one or two passes."""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nclib.geometry import simplex_gram
from nclib.metrics import nc
from nclib.metrics.classification import Classification
from nclib.metrics.separation import Directions, Onto
from nclib.metrics.spectrum import effective_rank, participation_ratio
from nclib.stats import ClassStats, missing_classes

Batches = Iterator[tuple[Tensor, ...]]
"""Features (n, d) and labels (n,), batch after batch, and behind them what hidden layers give of these samples."""
_BLOCK = 250
"""Rows of features in memory that are looked at together."""
FEWEST_ROWS = 1000
"""What a batch is gathered to at least."""


def measure_stream(
    head: nc.Head,
    passes: Callable[[], Batches],
    *,
    num_classes: int,
    reference: ClassStats | None = None,
    names: Sequence[int] | None = None,
) -> tuple[dict[str, float], ClassStats, list[dict[str, float]]]:
    """Error, loss, margins and every NC metric of features that are read twice in batches; their statistics.

    `passes` begins a pass over the batches, which must give the same samples each time, in whatever order. Memory
    is that of a few d x d and K x d matrices and of `gathered` features, for any number of samples. `reference` adds
    what is measured against *training* means, as in `measure.Split`; `names` are what messages call the classes.
    Last come, of each hidden layer, the metrics that need no classifier.

    Raises ValueError for a class without samples, a pass without any, and passes of different length.
    """
    K, rows = num_classes, max(num_classes, FEWEST_ROWS)
    stats, classified, directions, *hidden_stats = sums(
        (
            ClassStats.of(H, y, K),
            Classification.of(head, H, y),
            Directions.of(H, y, K),
            *(ClassStats.of(A, y, K) for A in hidden),
        )
        for H, y, *hidden in gathered(passes(), rows)
    )
    if (stats.n == 0).any():
        raise ValueError(missing_classes(stats.n, names))
    decisions, *rest = sums(
        (
            nc.Decisions.of(stats, head, H, y),
            *(nc.Decisions.of(s, None, A, y) for s, A in zip(hidden_stats, hidden, strict=True)),
            *_against(reference, head, H, y),
        )
        for H, y, *hidden in gathered(passes(), rows)
    )
    if decisions.N != stats.N:
        raise ValueError(
            f"the first pass gave {stats.N:.0f} samples and the second {decisions.N}: measuring reads the data "
            "twice, and both passes must give the same samples"
        )
    decided, against = rest[: len(hidden_stats)], rest[len(hidden_stats) :]
    # mean |h|^2 = within scatter + the means' own
    norm = stats.trace_Sigma_W + (stats.n @ stats.mu.square().sum(1)) / stats.N
    values = _values(head, stats, classified, directions, decisions, norm, reference, against)
    return values, stats, list(map(nc.collapse_metrics, hidden_stats, decided))


def measure_kept(
    head: nc.Head,
    H: Float[Tensor, "n d"],
    y: Int[Tensor, " n"],
    *,
    num_classes: int,
    reference: ClassStats | None = None,
) -> tuple[dict[str, float], ClassStats]:
    """The same of features in memory: the scatter is taken in the span of the class means alone."""
    classified, directions, *against = sums(
        (
            Classification.of(head, *batch),
            Directions.of(*batch, num_classes),
            *_against(reference, head, *batch),
        )
        for batch in zip(H.split(_BLOCK), y.split(_BLOCK), strict=True)
    )
    stats, X, scores = ClassStats.with_coordinates(H, y, num_classes, head.W)
    decisions = nc.Decisions.from_coordinates(X, stats.M @ stats.basis.T, y, scores, head)
    norm = H.double().square().sum(1).mean()
    return _values(head, stats, classified, directions, decisions, norm, reference, against), stats


def classification(head: nc.Head, batches: Batches) -> dict[str, float]:
    """Error, loss and margins alone: what there is to measure where a class has no sample."""
    (classified,) = sums((Classification.of(head, H, y),) for H, y in batches)
    return classified.metrics()


def gathered(batches: Batches, rows: int) -> Batches:
    """The same samples in the same order, in batches of at least this many; only the last may have fewer.

    Adding the statistics of K classes costs K d^2 operations however few samples are added, so that small batches of
    many classes would cost more in sums than in features. In memory are the features of fewer than `rows` samples and
    one batch, and while they are joined, twice.
    """
    held: list[tuple[Tensor, ...]] = []
    count = 0
    for batch in batches:
        n = len(batch[0])
        if not held and n >= rows:
            yield batch
            continue
        held.append(tuple(part.clone() for part in batch))  # the next batch may come in the same memory
        count += n
        if count >= rows:
            yield _joined(held)
            held, count = [], 0
    if held:
        yield _joined(held)


def _joined(batches: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(map(torch.cat, zip(*batches, strict=True)))


def first_of_each(batches: Batches, num_classes: int, per_class: int) -> tuple[Tensor, Tensor]:
    """The first samples of each class, at most this many, in order of classes; no batch after the last is read."""
    held: list[tuple[Tensor, Tensor]] = []
    count = [0] * num_classes
    for H, y, *_ in batches:
        for k in y.unique().tolist():
            rows = (y == k).nonzero().flatten()[: per_class - count[k]]
            held.append((H[rows], y[rows]))
            count[k] += len(rows)
        if min(count) == per_class:
            break
    H, y = _joined(held)
    order = y.argsort(stable=True)
    return H[order], y[order]


def sums(items: Iterator[tuple]) -> tuple:
    """Tuples of what adds up, added element by element. Raises ValueError when there is none."""
    total = next(items, None)
    if total is None:
        raise ValueError("a pass over the data gave no samples: it is empty, or can be read only once")
    for item in items:
        total = tuple(a + b for a, b in zip(total, item, strict=True))
    return total


def _against(reference: ClassStats | None, head: nc.Head, H: Tensor, y: Tensor) -> tuple:
    if reference is None:
        return ()
    return nc.Decisions.of(reference, head, H, y), Onto.of(reference, H, y)


def _values(
    head: nc.Head,
    stats: ClassStats,
    classified: Classification,
    directions: Directions,
    decisions: nc.Decisions,
    norm: Tensor,
    reference: ClassStats | None,
    against: Sequence,
) -> dict[str, float]:
    values = classified.metrics() | nc.collapse_metrics(stats, decisions, head) | shape_metrics(stats, head)
    values["mean_feature_norm_squared"] = float(norm)
    values["class_separation"] = directions.separation()
    if reference is not None:
        by_train_means, onto = against
        values["ncc_accuracy_train_means"] = by_train_means.ncc_correct / by_train_means.N
        values["nc4_mismatch_train_means"] = by_train_means.mismatches / by_train_means.N
        values |= onto.metrics(reference)
    return values


def shape_metrics(stats: ClassStats, head: nc.Head) -> dict[str, float]:
    r"""What the slide study measures in its own way, and the dimension the class means use.

    `nc2_gram_frobenius`: $\|\cos - \frac{K}{K-1}(I - \frac1K 11^\top)\|_F$ of means about the sample mean,
    unnormalised.
    `nc3_rows_uncentred`: Frobenius distance of W and *uncentred* means, both with unit rows.
    `nc2_cos_std_weights`: standard deviation of cos(w_c, w_c'), ddof 1, over unordered pairs.
    `global_mean_ratio`: $\|\mu_G\|$ over the mean $\|\mu_c - \mu_G\|$.
    Where all means coincide up to rounding their shape is NaN, and the last infinite.
    """
    centred = nc.centred_means(stats)
    M = torch.where(centred.any(), stats.mu - stats.mu_S, 0)
    U = nn.functional.normalize(M, dim=1, eps=0)
    gram = U @ U.T
    rows = nn.functional.normalize(head.W, dim=1, eps=0) - nn.functional.normalize(stats.mu, dim=1, eps=0)
    mean_gram = centred @ centred.T
    values = {
        "nc2_gram_frobenius": torch.linalg.matrix_norm(gram - simplex_gram(stats.K).to(gram)),
        "nc3_rows_uncentred": torch.linalg.matrix_norm(rows),
        "nc2_cos_std_weights": nc.cos_std(head.W),
        "participation_ratio_means": participation_ratio(mean_gram),
        "effective_rank_means": effective_rank(mean_gram),
        "global_mean_ratio": torch.linalg.vector_norm(stats.mu_G)
        / torch.linalg.vector_norm(centred, dim=1).mean(),
    }
    return {name: float(value) for name, value in values.items()}
