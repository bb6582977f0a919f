"""Closed forms, certificates and the solver that tries them: one module per paper, and what they share."""

from nclib.theory import (
    batched,
    checks,
    convex,
    ji2021,
    jiang2023,
    landscape,
    lbfgs,
    mixon2020,
    solver,
    tirer2022,
    tirer2022_extended,
    unconstrained,
    zhao2026,
    zhu2021,
)

__all__ = [
    "batched",
    "checks",
    "convex",
    "ji2021",
    "jiang2023",
    "landscape",
    "lbfgs",
    "mixon2020",
    "solver",
    "tirer2022",
    "tirer2022_extended",
    "unconstrained",
    "zhao2026",
    "zhu2021",
]
