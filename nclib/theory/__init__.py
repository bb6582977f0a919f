"""Closed forms and certificates, one module per paper; the solver and the random instances that try them."""

from nclib.theory import (
    batched,
    checks,
    convex,
    critical_points,
    instances,
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
    "critical_points",
    "instances",
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
