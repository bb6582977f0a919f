"""Published claims, each with a predicate fixed before the runs it judges. Nothing here loads torch."""

import pandas as pd

from nclib.claims import (
    bardazzi2026,
    galanti2022,
    han2022,
    hui2022,
    ji2021,
    jiang2023,
    mixon2020,
    nakkiran2020,
    nguyen2023,
    papyan2020,
    tirer2022,
    zhao2026,
    zhu2021,
    zhu2021_labels,
    zhu2021_networks,
)
from nclib.claims.verdict import Claim, Verdict

ALL: tuple[Claim, ...] = (
    *papyan2020.CLAIMS, *galanti2022.CLAIMS, *hui2022.CLAIMS, *han2022.CLAIMS, *nguyen2023.CLAIMS,
    *zhu2021.CLAIMS, *zhu2021_networks.CLAIMS, *zhu2021_labels.CLAIMS, *tirer2022.CLAIMS, *ji2021.CLAIMS,
    *mixon2020.CLAIMS, *bardazzi2026.CLAIMS, *nakkiran2020.CLAIMS, *zhao2026.CLAIMS,
    *jiang2023.CLAIMS,
)  # fmt: skip
"""Every registered claim, in the order of the scoreboard."""

__all__ = ["ALL", "Claim", "Verdict", "get", "judge_all", "lines"]


def get(claim_id: str) -> Claim:
    """The claim of this id; KeyError when there is none."""
    for claim in ALL:
        if claim.id == claim_id:
            return claim
    raise KeyError(f"no claim is called {claim_id!r}")


def judge_all(tables: dict[str, pd.DataFrame]) -> dict[str, Verdict]:
    """The verdict of every claim, from one table per study (missing studies give inconclusive verdicts)."""
    nothing = pd.DataFrame()
    return {claim.id: claim.judge(tables.get(claim.study, nothing)) for claim in ALL}


def lines(table: pd.DataFrame, *ids: str) -> str:
    """One line a claim, its id and its verdict on this table: what notebooks print and nbval compares."""
    return "\n".join(f"{name}: {get(name).judge(table)}" for name in ids)
