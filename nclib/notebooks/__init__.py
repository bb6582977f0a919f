"""Notebooks as programs: strict parameters, execution by papermill, and the gate that keeps stale pages out."""

from nclib.notebooks.asking import PROFILES, asked, cells, parameters
from nclib.notebooks.execution import ExecutionError, execute
from nclib.notebooks.variables import check, sweep

__all__ = ["PROFILES", "ExecutionError", "asked", "cells", "check", "execute", "parameters", "sweep"]
