"""Closed forms and certificates, one module per paper."""

from nclib.theory import convex, unconstrained, zhu2021

__all__ = ["convex", "unconstrained", "zhu2021"]
