"""Mixon, Parshall & Pi (2020): strong neural collapse under the squared error, without weight decay."""

from nclib.claims.theorems import theorem

CLAIMS = (
    theorem(
        "mixon2020", "theorem-strong-collapse",
        "Strongly collapsed points have no loss, and WᵀW = HᵀH as the flow from zero keeps it.",
        "definition of strong neural collapse", "no loss", "distances", "conservation",
    ),
)  # fmt: skip
