"""Closed forms and certificates, one module per paper."""

from nclib.theory import unconstrained, zhu2021

__all__ = ["unconstrained", "zhu2021"]
