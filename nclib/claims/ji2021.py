"""Ji et al. (2021): unconstrained features without weight decay, where collapse has the largest margin."""

from nclib.claims.theorems import theorem

CLAIMS = (
    theorem(
        "ji2021", "theorem-margin",
        "Without weight decay no point has a larger normalised margin than a collapsed one.", "theorem 3.1",
        "bound attained", "unit margin", "margin bound",
    ),
    theorem(
        "ji2021", "theorem-conservation", "Gradient flow keeps WᵀW − HᵀH.", "derived from the gradient",
        "conservation",
    ),
)  # fmt: skip
