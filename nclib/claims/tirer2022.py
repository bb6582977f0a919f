"""Tirer & Bruna (2022): unconstrained features with squared error, under one linear layer or two."""

from nclib.claims.theorems import theorem

CLAIMS = (
    theorem(
        "tirer2022", "theorem-minimum",
        "With squared error the closed form is the minimum, in every dimension, with a free bias and without.",
        "theorems 3.1 and 3.2", "value", "stationarity", "norms", "no point below",
    ),
    theorem(
        "tirer2022", "theorem-partner",
        "With squared error the objective is never below its convex partner, and the closed form minimises both.",
        "derived from theorems 3.1 and 3.2", "certificate", "partner below f",
    ),
    theorem(
        "tirer2022", "theorem-extended", "With two linear layers on the features the closed form is the minimum.",
        "theorem 4.1", "value", "stationarity", "no point below", paper="tirer2022_extended",
    ),
)  # fmt: skip
