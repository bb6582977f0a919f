"""Figures: a table and an axis in, the axis out. They draw what the table holds and cannot train."""

from nclib.plots.style import (
    COLOURS,
    figure,
    half_width,
    interval,
    legend_below,
    mean_and_half,
    mean_and_interval,
    mean_with_interval,
    use_style,
)

__all__ = [
    "COLOURS",
    "figure",
    "half_width",
    "interval",
    "legend_below",
    "mean_and_half",
    "mean_and_interval",
    "mean_with_interval",
    "use_style",
]
