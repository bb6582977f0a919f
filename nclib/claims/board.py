"""The scoreboard: every claim beside its published evidence and our verdict, as a table, a page and sentences."""

import json
from collections.abc import Iterable, Mapping
from html import escape

import pandas as pd

from nclib.claims.verdict import Claim, Verdict, show

SOURCES = {
    "papyan2020": "Papyan, Han & Donoho (2020)",
    "galanti2022": "Galanti, György & Hutter (2022)",
    "hui2022": "Hui, Belkin & Nakkiran (2022)",
    "han2022": "Han, Papyan & Donoho (2022)",
    "nguyen2023": "Nguyen et al. (2023)",
    "zhu2021": "Zhu et al. (2021)",
    "tirer2022": "Tirer & Bruna (2022)",
    "ji2021": "Ji et al. (2021)",
    "mixon2020": "Mixon, Parshall & Pi (2020)",
    "bardazzi2026": "Bardazzi (2026)",
    "nakkiran2020": "Nakkiran et al. (2020)",
    "zhao2026": "Zhao et al. (2026)",
    "jiang2023": "Jiang et al. (2023)",
}
_MARKS = {"supported": "✓", "not supported": "✗", "inconclusive": "?"}


def frame(claims: Iterable[Claim], verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """One row a claim, everything known about it: what scoreboard.csv and scoreboard.json hold."""
    rows = []
    for claim in claims:
        v = verdicts[claim.id]
        rows.append(
            {
                "id": claim.id, "source": claim.source, "place": claim.place, "statement": claim.statement,
                "measure": claim.measure, "predicate": claim.predicate, "published": claim.published,
                "verdict": v.status, "number": v.number, "low": v.low, "high": v.high, "n": v.n, "reason": v.reason,
                "awaits_runs": v.awaits_runs,
                "study": claim.study, "registered": claim.registered, "page": claim.page,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def as_json(frame: pd.DataFrame) -> str:
    """What `frame` gives as JSON, a list of objects: every digit of every number, and null where there is none."""
    entries = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def counts(verdicts: Mapping[str, Verdict]) -> dict[str, int]:
    """How many claims there are, how many have each verdict, and how many await runs, being inconclusive."""
    statuses = [v.status for v in verdicts.values()]
    found = {"claims": len(statuses)} | {s.replace(" ", "_"): statuses.count(s) for s in _MARKS}
    return found | {"awaiting_runs": sum(v.awaits_runs for v in verdicts.values())}


def html(claims: Iterable[Claim], verdicts: Mapping[str, Verdict]) -> str:
    """The table for the page: an anchor a claim, and a link to the chapter that shows the evidence."""
    body = "".join(_row(claim, verdicts[claim.id]) for claim in claims)
    heads = "".join(f"<th>{h}</th>" for h in ("Claim", "Published", "Measured here", "Condition", "Verdict"))
    return f'<table class="scoreboard"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _row(claim: Claim, v: Verdict) -> str:
    status = v.status.replace(" ", "-")
    measured = (
        escape(v.reason)
        if v.number is None
        else f"<b>{show(v.number)}</b> [{show(v.low)}, {show(v.high)}], n = {v.n}"
    )
    waits = "<br><small>awaits runs</small>" if v.awaits_runs else ""
    late = "" if claim.registered == "before" else " Registered after runs of its kind existed."
    origin = f"{escape(SOURCES[claim.source])}, {escape(claim.place)}"
    cells = (
        ("Claim", f'{escape(claim.statement)} <a href="{claim.page}.html">evidence</a>'
                  f'<br><small>{origin} · <a href="#{claim.id}">{claim.id}</a></small>'),
        ("Published", escape(claim.published) or "–"),
        ("Measured here", f"{measured}<br><small>{escape(claim.measure)}</small>"),
        ("Condition", escape(claim.predicate) + late),
        ("Verdict", f'<span class="verdict verdict-{status}">{_MARKS[v.status]} {v.status}</span>{waits}'),
    )  # fmt: skip
    return f'<tr id="{claim.id}">' + "".join(f'<td data-label="{h}">{c}</td>' for h, c in cells) + "</tr>"


def standing(verdicts: Iterable[Verdict]) -> str:
    """What several verdicts on one statement come to: stands, does not stand, stands in part, or undecided."""
    statuses = {v.status for v in verdicts}
    if statuses == {"supported"}:
        return "stands"
    if "not supported" in statuses:
        return "stands in part" if "supported" in statuses else "does not stand"
    return "undecided"


def tally(verdicts: Iterable[Verdict]) -> str:
    """The `standing` of several verdicts, and in brackets how many there are of each."""
    verdicts = list(verdicts)
    found = counts(dict(enumerate(verdicts)))
    waiting = found["awaiting_runs"]
    return (
        f"{standing(verdicts)} ({found['supported']} of {found['claims']} supported, "
        f"{found['not_supported']} not, {found['inconclusive'] - waiting} undecided"
        + (f", {waiting} awaiting runs)" if waiting else ")")
    )


def by_number(numbered: Mapping[str, str], claims: Iterable[Claim], verdicts: Mapping[str, Verdict]) -> str:
    """A table with one row a numbered statement: every claim that judges it, and what they come to."""
    claims, rows = list(claims), []
    for number, statement in numbered.items():
        mine = [claim for claim in claims if number in claim.numbers]
        came_to = standing(verdicts[claim.id] for claim in mine)
        judged = "".join(_short(claim, verdicts[claim.id]) for claim in mine)
        cells = (("No.", number), ("Statement", escape(statement)), ("Judged as", f"<ul>{judged}</ul>"),
                 ("Comes to", f"<b>{came_to}</b>"))  # fmt: skip
        rows.append("<tr>" + "".join(f'<td data-label="{h}">{c}</td>' for h, c in cells) + "</tr>")
    heads = "".join(f"<th>{h}</th>" for h in ("No.", "Statement", "Judged as", "Comes to"))
    return f'<table class="scoreboard"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _short(claim: Claim, v: Verdict) -> str:
    status = v.status.replace(" ", "-")
    number = "" if v.number is None else f" {show(v.number)} [{show(v.low)}, {show(v.high)}], n = {v.n}"
    return (
        f'<li><span class="verdict verdict-{status}">{_MARKS[v.status]} {v.status}</span>{number}: '
        f'<a href="scoreboard.html#{claim.id}">{escape(claim.statement)}</a></li>'
    )


def headline(verdicts: Mapping[str, Verdict], ids: Iterable[str], key_claim: str, phrase: str) -> str:
    """One sentence about a group of claims: how many stand, and the number of the one that matters most.

    `phrase` says what that number is, with {number}, {low}, {high} and {n} to be filled in.
    """
    group = [verdicts[name] for name in ids]
    standing = sum(v.status == "supported" for v in group)
    waiting = sum(v.awaits_runs for v in group)
    undecided = sum(v.status == "inconclusive" for v in group) - waiting
    text = (
        f"{standing} of {len(group)} claims are supported"
        + (f", {undecided} undecided" if undecided else "")
        + (f", {waiting} awaiting runs" if waiting else "")
    )
    v = verdicts[key_claim]
    if v.number is None:
        return f"{text}; the central one is undecided ({v.reason})."
    return f"{text}; " + phrase.format(number=show(v.number), low=show(v.low), high=show(v.high), n=v.n) + "."
