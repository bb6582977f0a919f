"""Bardazzi (2026): double descent, neural collapse and CKA on MNIST-1D with 20 % label noise."""

from nclib.claims.bardazzi2026 import (
    controls,
    correlation,
    epoch_wise,
    feature_dimension,
    model_wise,
    representations,
    widest,
)
from nclib.claims.bardazzi2026.model_wise import cross_fitted
from nclib.claims.bardazzi2026.numbered import NUMBERED
from nclib.claims.bardazzi2026.study import CONFIGURATIONS, WIDTHS, parameters

__all__ = ["CLAIMS", "CONFIGURATIONS", "NUMBERED", "WIDTHS", "cross_fitted", "parameters"]

CLAIMS = (
    *model_wise.CLAIMS,
    *correlation.CLAIMS,
    *widest.CLAIMS,
    *controls.CLAIMS,
    *epoch_wise.CLAIMS,
    *feature_dimension.CLAIMS,
    *representations.CLAIMS,
)
