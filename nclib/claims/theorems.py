"""Theorems put to random instances: they stand while the worst violation of their statements is rounding."""

from typing import Literal

import pandas as pd

from nclib.claims.verdict import Claim, Verdict, every_run, evidence, judged, per_run

INSTANCES = 1000
"""Random instances a run must have drawn."""


def theorem(
    source: str,
    name: str,
    statement: str,
    place: str,
    *names: str,
    paper: str | None = None,
    note: str = "",
    registered: Literal["before", "after"] = "before",
) -> Claim:
    """The claim that the statements of these names, of the source or of another `paper` of the study, hold.

    A `note` is appended to how it is measured.
    """

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = evidence(table, paper=paper or source)
        rows = evidence(rows[rows.instances >= INSTANCES])
        at = pd.Series(0, index=rows.run.unique())
        by_statement = [
            per_run(rows, "violation_max", at, split="none", labels="none", layer=each) for each in names
        ]
        return every_run(pd.concat(by_statement, axis=1).max(axis=1), below=1e-8)

    return Claim(
        id=f"{source}-{name}", statement=statement, place=place,
        measure=f"largest violation over {INSTANCES} random instances a run ({', '.join(names)}){note}",
        predicate="below 1e-8", judge=judge, source=source, study="statements", page="22_landscape",
        registered=registered,
    )  # fmt: skip
