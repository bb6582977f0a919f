"""Neural collapse, measured: class statistics, NC metrics, CKA, theory, studies and judged claims.

Names are exported lazily, so that `import nclib.claims` or `nclib.plots` loads no torch.
"""

from importlib import import_module
from pkgutil import iter_modules

__version__ = "0.1.0"

_EXPORTS = {
    "measure_features": "nclib.metrics.features",
    "measure_model": "nclib.own.measuring",
    "Trajectory": "nclib.own.trajectory",
    "ClassStats": "nclib.stats",
    "cka": "nclib.metrics.cka",
    "simplex_etf": "nclib.geometry",
}
_MODULES = {module.name for module in iter_modules(__path__)}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> object:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    if name in _MODULES:
        return import_module(f"nclib.{name}")
    raise AttributeError(f"module 'nclib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS, *_MODULES])
