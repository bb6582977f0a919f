"""Bardazzi (2026): double descent, neural collapse and CKA on MNIST-1D with 20 % label noise."""

from nclib.claims.bardazzi2026 import feature_dimension, model_wise, representations, widest
from nclib.claims.bardazzi2026.model_wise import cross_fitted
from nclib.claims.bardazzi2026.study import CONFIGURATIONS, DIMENSIONS, WIDTHS, parameters

__all__ = ["CLAIMS", "CONFIGURATIONS", "DIMENSIONS", "WIDTHS", "cross_fitted", "parameters"]

CLAIMS = (*model_wise.CLAIMS, *widest.CLAIMS, *feature_dimension.CLAIMS, *representations.CLAIMS)
