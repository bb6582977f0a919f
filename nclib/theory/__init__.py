"""Closed forms and certificates, one module per paper."""

from nclib.theory import (
    checks,
    convex,
    ji2021,
    jiang2023,
    mixon2020,
    tirer2022,
    tirer2022_extended,
    unconstrained,
    zhao2026,
    zhu2021,
)

__all__ = [
    "checks",
    "convex",
    "ji2021",
    "jiang2023",
    "mixon2020",
    "tirer2022",
    "tirer2022_extended",
    "unconstrained",
    "zhao2026",
    "zhu2021",
]
