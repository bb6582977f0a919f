"""Metrics: statistics in, a scalar out. Every name says which of the published variants it is."""
