"""The closed forms put to random instances: how far the worst of them violates each statement of a paper."""

from dataclasses import dataclass
from pathlib import Path

import torch

from nclib import studies
from nclib.runs import Run
from nclib.studies.params import StudyParams, param
from nclib.theory.checks import PAPERS, violations


@dataclass(frozen=True, kw_only=True)
class Params(StudyParams):
    """Whose statements, and on how many random problems and points. float64 throughout."""

    paper: str = param(
        "zhu2021", choices=tuple(PAPERS)
    )  # zhu2021_descent: L-BFGS from a random start an instance
    instances: int = param(1000, min=1)  # ours: minutes for all papers together


SMOKE = Params(paper="zhu2021", instances=20)
"""The smallest run that meets both sides of the collapse threshold: what `nclib.studies.smoke` holds the code to."""


def dataset(params: Params) -> str | None:
    """Nothing: instances are drawn."""
    return None


def cost(params: Params) -> float:
    """Rough seconds of a run on one core."""
    return params.instances * (0.1 if params.paper == "zhu2021_descent" else 0.005)


def trajectory(params: Params) -> Run:
    """The recorded run of these parameters, made and recorded first if it never was."""
    return studies.trajectory("statements", params)


def run(params: Params, *, folder: Path, device: torch.device) -> tuple[list[dict], dict]:
    """The largest violation of every statement, a row each, whose layer is the statement's name. On the CPU."""
    found = violations(params.paper, studies.generator("instances", params.seed), instances=params.instances)
    rows = [
        {"epoch": 0, "split": "none", "labels": "none", "layer": statement, "metric": "violation_max"}
        | {"value": value}
        for statement, value in found.items()
    ]
    return rows, {}
