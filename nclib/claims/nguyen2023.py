"""Nguyen, Levie, Lienen, Kutyniok & Hüllermeier (2023): memorised wrong labels loosen the collapse."""

from nclib.claims.terminal_phase import NOISY, TEST, TRAIN, against, varied
from nclib.claims.terminal_phase import claim as _claim

_NOISY, _CLEAN = varied(label_noise=0.2), varied()
_COMMON = {"source": "nguyen2023", "page": "12_what_it_needs"}

CLAIMS = (
    _claim(
        "training", "Wrong labels keep the training features from collapsing as far.", "abstract",
        "Tr Σ_W / Tr Σ_B with 20 % of the labels permuted over that with none, last epoch", "above 1",
        against("nc1_trace_ratio", _NOISY, _CLEAN, NOISY, TRAIN, above=1.0), **_COMMON,
    ),
    _claim(
        "test", "Wrong labels raise the variability of test features (memorisation-dilation).", "abstract",
        "test CDNV with 20 % of the labels permuted over that with none, last epoch", "above 1",
        against("cdnv", _NOISY, _CLEAN, TEST, above=1.0), **_COMMON,
    ),
)  # fmt: skip
