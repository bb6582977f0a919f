"""Many small networks trained as one computation: each as if it were alone, none aware of the others."""

from nclib.stacking.side_by_side import Outcome, side_by_side

__all__ = ["Outcome", "side_by_side"]
