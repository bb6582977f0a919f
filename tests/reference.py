"""Every metric a second time: slow, float64, numpy, straight from the formulas; the oracle of test_values.py.

Nothing here is shared with nclib: sums are loops, covariances are explicit d x d matrices, and the pseudo-inverse is
numpy's, cut at 1e-11 of the largest eigenvalue.
"""

from itertools import combinations, permutations

import numpy as np


def simplex(K):
    """K/(K-1) (I - 11'/K), entry by entry."""
    return np.array([[1.0 if i == j else -1.0 / (K - 1) for j in range(K)] for i in range(K)])


def cosine(u, v):
    return float(u @ v) / (np.linalg.norm(u) * np.linalg.norm(v))


def std(values):
    """With ddof 1."""
    mean = sum(values) / len(values)
    return (
        (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else float("nan")
    )


def unit(A):
    return A / np.sqrt((A**2).sum())


def nc_metrics(H, y, W=None, b=None, K=None):
    """Every key of nclib.measure_features."""
    H, K = np.asarray(H, dtype=np.float64), K or int(max(y)) + 1
    N, d = H.shape
    mu = [np.mean([h for h, k in zip(H, y, strict=True) if k == c], axis=0) for c in range(K)]
    n = [sum(1 for k in y if k == c) for c in range(K)]
    mu_G = sum(mu) / K
    mu_S = sum(H) / N
    Sigma_W = np.zeros((d, d))
    for h, k in zip(H, y, strict=True):
        Sigma_W += np.outer(h - mu[k], h - mu[k]) / N
    Sigma_B = sum(np.outer(m - mu_G, m - mu_G) for m in mu) / K
    Sigma_B_sample = sum(np.outer(m - mu_S, m - mu_S) for m in mu) / K
    Sigma_B_weighted = sum(n[k] / N * np.outer(mu[k] - mu_S, mu[k] - mu_S) for k in range(K))

    def pinv_form(between):
        return np.trace(Sigma_W @ np.linalg.pinv(between, rcond=1e-11, hermitian=True)) / K

    M = np.array([m - mu_G for m in mu])
    eigenvalues = np.linalg.eigvalsh(Sigma_B)
    pairs = list(combinations(range(K), 2))
    cosines = [cosine(M[i], M[j]) for i, j in pairs]
    norms = [np.linalg.norm(m) for m in M]
    s = [np.mean([((h - mu[c]) ** 2).sum() for h, k in zip(H, y, strict=True) if k == c]) for c in range(K)]
    nearest = [min(range(K), key=lambda c, h=h: np.linalg.norm(h - mu[c])) for h in H]
    values = {
        "nc1_pinv": pinv_form(Sigma_B),
        "nc1_pinv_sample_centred": pinv_form(Sigma_B_sample),
        "nc1_pinv_weighted": pinv_form(Sigma_B_weighted),
        "nc1_trace_ratio": np.trace(Sigma_W) / np.trace(Sigma_B),
        "nc1_trace_ratio_weighted": np.trace(Sigma_W) / np.trace(Sigma_B_weighted),
        "sigma_b_rank": min(K - 1, sum(1 for e in eigenvalues if e > 1e-11 * eigenvalues.max())),
        "nc2_norm_cv_means": std(norms) / np.mean(norms),
        "nc2_cos_std_means": std(cosines),
        "nc2_cos_dev_means": np.mean([abs(c + 1 / (K - 1)) for c in cosines]),
        "nc2_etf_means": np.linalg.norm(unit(M @ M.T) - unit(simplex(K))),
        "ncc_accuracy": np.mean([a == k for a, k in zip(nearest, y, strict=True)]),
        "cdnv": np.mean(
            [(s[i] + s[j]) / (2 * ((mu[i] - mu[j]) ** 2).sum()) for i, j in permutations(range(K), 2)]
        ),
    }
    if W is None:
        return values
    W = np.asarray(W, dtype=np.float64)
    bias = np.zeros(K) if b is None else np.asarray(b, dtype=np.float64)
    weight_norms = [np.linalg.norm(w) for w in W]
    decided = [int(np.argmax(W @ h + bias)) for h in H]
    values |= {
        "nc2_norm_cv_weights": std(weight_norms) / np.mean(weight_norms),
        "nc2_cos_dev_weights": np.mean([abs(cosine(W[i], W[j]) + 1 / (K - 1)) for i, j in pairs]),
        "nc2_etf_weights": np.linalg.norm(unit(W @ W.T) - unit(simplex(K))),
        "nc3_frobenius": np.linalg.norm(unit(W) - unit(M)),
        "nc3_etf": np.linalg.norm(unit(W @ M.T) - unit(simplex(K))),
        "nc3_cosine": 1 - np.mean([cosine(W[k], M[k]) for k in range(K)]),
        "nc4_mismatch": np.mean([a != c for a, c in zip(nearest, decided, strict=True)]),
    }
    if b is not None:
        values["bias_collapse"] = np.linalg.norm(W @ mu_S + bias)
    return values


def shape_metrics(H, y, W):
    """What the slide study measures in its own way, and the dimension of the means: nclib.streams.shape_metrics."""
    H, W, K = np.asarray(H), np.asarray(W), int(max(y)) + 1
    mu = [np.mean([h for h, k in zip(H, y, strict=True) if k == c], axis=0) for c in range(K)]
    mu_G, mu_S = sum(mu) / K, sum(H) / len(H)
    gram = np.array([[cosine(mu[i] - mu_S, mu[j] - mu_S) for j in range(K)] for i in range(K)])
    M = np.array(mu) - mu_G
    eigenvalues = np.clip(np.linalg.eigvalsh(M @ M.T), 0, None)
    p = [e / eigenvalues.sum() for e in eigenvalues if e > 0]
    return {
        "nc2_gram_frobenius": np.linalg.norm(gram - simplex(K)),
        "nc3_rows_uncentred": sum(
            ((W[k] / np.linalg.norm(W[k]) - mu[k] / np.linalg.norm(mu[k])) ** 2).sum() for k in range(K)
        )
        ** 0.5,
        "nc2_cos_std_weights": np.std([cosine(W[i], W[j]) for i in range(K) for j in range(i)], ddof=1)
        if K > 2
        else np.nan,
        "participation_ratio_means": eigenvalues.sum() ** 2 / (eigenvalues**2).sum(),
        "effective_rank_means": np.exp(-sum(q * np.log(q) for q in p)),
        "global_mean_ratio": np.linalg.norm(mu_G) / np.mean([np.linalg.norm(m) for m in M]),
    }


def mse_decomposition(H, y, W, b, penalty):
    """nclib.metrics.mse, sample by sample; the best classifier from an explicit second moment, pinv by numpy."""
    H, W, K = np.asarray(H), np.asarray(W), int(max(y)) + 1
    if b is not None:
        H, W = np.array([[*h, 1.0] for h in H]), np.array([[*w, c] for w, c in zip(W, b, strict=True)])
    N, d = H.shape
    A, cross = penalty * np.eye(d), np.zeros((K, d))
    for h, k in zip(H, y, strict=True):
        A += np.outer(h, h) / N
        cross[k] += h / N
    best = cross @ np.linalg.pinv(A, hermitian=True)
    mu = [np.mean([h for h, k in zip(H, y, strict=True) if k == c], axis=0) for c in range(K)]
    total = sum(((W @ h - np.eye(K)[k]) ** 2).sum() for h, k in zip(H, y, strict=True)) / (2 * N)
    scatter = sum(((best @ (h - mu[k])) ** 2).sum() for h, k in zip(H, y, strict=True)) / (2 * N)
    return {
        "mse_total": total + penalty / 2 * (W**2).sum(),
        "mse_nc1": scatter + penalty / 2 * (best**2).sum(),
        "mse_nc23": sum(((best @ mu[k] - np.eye(K)[k]) ** 2).sum() for k in y) / (2 * N),
        "mse_perp": np.trace((W - best) @ A @ (W - best).T) / 2,
    }


def snr_singular_values(H, y):
    """Along the K - 1 directions of the class means: the root of the covariance, inverted, times the means."""
    H, K = np.asarray(H), int(max(y)) + 1
    mu = np.array([np.mean([h for h, k in zip(H, y, strict=True) if k == c], axis=0) for c in range(K)])
    axes = np.linalg.svd(mu - mu.mean(axis=0))[2][: K - 1]
    scatter = sum(np.outer(axes @ (h - mu[k]), axes @ (h - mu[k])) for h, k in zip(H, y, strict=True)) / len(
        y
    )
    eigenvalues, vectors = np.linalg.eigh(scatter)
    root = vectors @ np.diag(eigenvalues**-0.5) @ vectors.T
    return np.linalg.svd(root @ axes @ (mu - mu.mean(axis=0)).T)[1]


def class_separation(H, y):
    """From all N^2 cosine distances; of a feature of zero, 1."""
    K = int(max(y)) + 1
    rows = [[h for h, k in zip(np.asarray(H), y, strict=True) if k == c] for c in range(K)]

    def distance(a, b):
        return np.mean([1 - (cosine(u, v) if u.any() and v.any() else 0) for u in rows[a] for v in rows[b]])

    within = np.mean([distance(a, a) for a in range(K)])
    return 1 - within / np.mean([distance(a, b) for a in range(K) for b in range(K)])


def collapse_onto_means(train_H, train_y, H, y):
    """Distances of every sample to every training mean."""
    train_H, H, K = np.asarray(train_H), np.asarray(H), int(max(train_y)) + 1
    mu = [np.mean([h for h, k in zip(train_H, train_y, strict=True) if k == c], axis=0) for c in range(K)]
    between = np.mean([((m - sum(mu) / K) ** 2).sum() for m in mu])
    return {
        "test_collapse_weak": np.mean([min(((h - m) ** 2).sum() for m in mu) for h in H]) / between,
        "test_collapse_strong": np.mean([((h - mu[k]) ** 2).sum() for h, k in zip(H, y, strict=True)])
        / between,
    }


def classification(H, y, W, b):
    """Error, loss, margins and the features' size: what nclib.measure_model gives besides, one sample at a time."""
    losses, margins, wrong = [], [], 0
    for h, k in zip(np.asarray(H), y, strict=True):
        z = [float(w @ h) + beta for w, beta in zip(W, b, strict=True)]
        losses.append(np.log(sum(np.exp(v - z[k]) for v in z)))
        margins.append(z[k] - max(v for j, v in enumerate(z) if j != k))
        wrong += int(np.argmax(z)) != k
    return {
        "error": wrong / len(y),
        "loss": np.mean(losses),
        "margin_mean": np.mean(margins),
        "margin_min": min(margins),
        "mean_feature_norm_squared": np.mean([h @ h for h in np.asarray(H)]),
    }


def linear_kernel(X):
    return np.array([[float(u @ v) for v in X] for u in X])


def rbf_kernel(X, bandwidth=1.0, median="all"):
    D2 = np.array([[((u - v) ** 2).sum() for v in X] for u in X])
    if median == "all":
        sigma = bandwidth * np.sqrt(np.median(D2))
    else:
        sigma = bandwidth * np.median([D2[i, j] ** 0.5 for i, j in combinations(range(len(X)), 2)])
    return np.exp(-D2 / (2 * sigma**2))


def hsic_biased(K, L):
    """tr(KHLH)/(n-1)^2."""
    n = len(K)
    C = np.eye(n) - np.ones((n, n)) / n
    return np.trace(K @ C @ L @ C) / (n - 1) ** 2


def hsic_debiased(K, L):
    """Song et al. (2012), HSIC_1, term by term."""
    n, one = len(K), np.ones(len(K))
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    terms = np.trace(K @ L)
    terms += (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    terms -= 2 / (n - 2) * (one @ K @ L @ one)
    return terms / (n * (n - 3))


def cka(x, y, *, kernel="linear", debiased=False, bandwidth=1.0, median="all"):
    """nclib.cka from n x n kernels. Centre the data first: Song's three terms cancel badly on an offset."""
    x, y = (np.asarray(a, dtype=np.float64) for a in (x, y))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    if kernel == "linear":
        K, L = linear_kernel(x), linear_kernel(y)
    else:
        K, L = rbf_kernel(x, bandwidth, median), rbf_kernel(y, bandwidth, median)
    hsic = hsic_debiased if debiased else hsic_biased
    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
