"""Closed forms and certificates, one module per paper."""

from nclib.theory import (
    convex,
    ji2021,
    jiang2023,
    mixon2020,
    tirer2022,
    tirer2022_extended,
    unconstrained,
    zhu2021,
)

__all__ = [
    "convex",
    "ji2021",
    "jiang2023",
    "mixon2020",
    "tirer2022",
    "tirer2022_extended",
    "unconstrained",
    "zhu2021",
]
