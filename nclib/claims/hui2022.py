"""Hui, Belkin & Nakkiran (2022): test features do not collapse, neither onto their class mean nor onto any."""

from nclib.claims.terminal_phase import TEST, THROUGH, largest, through
from nclib.claims.terminal_phase import claim as _claim

_COMMON = {"source": "hui2022", "page": "11_test_and_layers"}

CLAIMS = (
    _claim(
        "strong", "Test features do not collapse onto the training mean of their class (strong test collapse).",
        "abstract", f"mean squared distance from it over Tr Σ_B, {THROUGH}",
        "above 0.5", through("test_collapse_strong", largest, TEST, above=0.5),
        **_COMMON,
    ),
    _claim(
        "weak", "Test features do not collapse onto whichever training mean is nearest (weak test collapse).",
        "abstract", f"mean squared distance from it over Tr Σ_B, {THROUGH}",
        "above 0.5", through("test_collapse_weak", largest, TEST, above=0.5),
        **_COMMON,
    ),
)  # fmt: skip
