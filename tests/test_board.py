"""The scoreboard says exactly what the verdicts are, in its table, its files and its sentences."""

import csv
import io
import json

import pandas as pd
import pytest

from nclib import claims, runs
from nclib.claims import bardazzi2026, board
from nclib.claims.verdict import Verdict


@pytest.fixture(scope="module")
def verdicts():
    tables = {study: runs.published(study) for study in {c.study for c in claims.ALL}}
    return claims.judge_all(tables)


def test_the_committed_files_are_what_the_records_give(verdicts):
    fresh = board.frame(claims.ALL, verdicts)
    assert fresh.to_csv(index=False) == (runs.ROOT / "data" / "scoreboard.csv").read_text()
    assert board.as_json(fresh) == (runs.ROOT / "data" / "scoreboard.json").read_text()


def test_every_number_of_both_files_is_the_verdicts_own_to_the_last_digit(verdicts):
    small = Verdict("supported", 2.74e-13, 1e-13, 1 / 3, 5)
    none = Verdict("inconclusive", reason="nothing recorded yet")
    shown = verdicts | {claims.ALL[0].id: small, claims.ALL[1].id: none}
    frame = board.frame(claims.ALL, shown)
    from_json = json.loads(board.as_json(frame))
    from_csv = list(csv.DictReader(io.StringIO(frame.to_csv(index=False))))
    for claim, entry, row in zip(claims.ALL, from_json, from_csv, strict=True):
        v = shown[claim.id]
        assert entry["id"] == row["id"] == claim.id
        assert entry["verdict"] == row["verdict"] == v.status
        assert entry["n"] == int(row["n"]) == v.n
        for name in ("number", "low", "high"):
            number = getattr(v, name)
            assert entry[name] == number, "a number that is missing is null"
            assert (float(row[name]) if row[name] else None) == number
    # Control: ten decimals, which pandas writes as JSON by itself, lose the first of them.
    assert json.loads(frame.to_json(orient="records"))[0]["number"] == 0 != from_json[0]["number"]


def test_every_claim_has_its_anchor_its_chapter_and_its_verdict(verdicts):
    page = board.html(claims.ALL, verdicts)
    for claim in claims.ALL:
        assert page.count(f'<tr id="{claim.id}">') == 1
        assert f'href="{claim.page}.html"' in page
    assert page.count("verdict-supported") == board.counts(verdicts)["supported"]


def test_every_source_has_a_name():
    assert {c.source for c in claims.ALL} == set(board.SOURCES)


def test_counts_add_up(verdicts):
    counts = board.counts(verdicts)
    statuses = ("supported", "not_supported", "inconclusive")
    assert counts["claims"] == len(claims.ALL) == sum(counts[status] for status in statuses)
    unrecorded = {claim.id: claim.judge(pd.DataFrame()) for claim in claims.ALL}
    every = dict.fromkeys(("claims", "inconclusive", "awaiting_runs"), len(claims.ALL))
    assert board.counts(unrecorded) == every | {"supported": 0, "not_supported": 0}
    assert sum(v.status == "inconclusive" and not v.awaits_runs for v in verdicts.values()) > 0, (
        "some are findings"
    )


def test_a_headline_carries_the_number_or_says_why_there_is_none():
    ids = ["a", "b"]
    decided = {
        "a": Verdict("supported", 0.1234, 0.1, 0.2, 3),
        "b": Verdict("not supported", 1.0, 0.9, 1.1, 3),
    }
    text = board.headline(decided, ids, "a", "it is {number} [{low}, {high}] in {n} seeds")
    assert text == "1 of 2 claims are supported; it is 0.123 [0.1, 0.2] in 3 seeds."
    open_question = decided | {"a": Verdict("inconclusive", reason="runs diverged")}
    text = board.headline(open_question, ids, "a", "{number}")
    assert text == "0 of 2 claims are supported, 1 undecided; the central one is undecided (runs diverged)."
    unrecorded = decided | {"b": Verdict("inconclusive", reason="nothing recorded yet", awaits_runs=True)}
    text = board.headline(unrecorded, ids, "a", "it is {number}")
    assert text == "1 of 2 claims are supported, 1 awaiting runs; it is 0.123."


def test_a_verdict_that_awaits_runs_says_so():
    claim, undecided = claims.ALL[0], Verdict("inconclusive", 1.0, 0.5, 1.5, 3)
    assert "awaits runs" in board.html([claim], {claim.id: claim.judge(pd.DataFrame())})
    assert "awaits runs" not in board.html([claim], {claim.id: undecided})


def test_html_is_escaped():
    claim = claims.ALL[0]
    page = board.html([claim], {claim.id: Verdict("inconclusive", reason="a < b & c")})
    assert "a &lt; b &amp; c" in page


S, N, U = (Verdict(status) for status in ("supported", "not supported", "inconclusive"))


@pytest.mark.parametrize(
    ("verdicts", "standing"),
    [
        ([S], "stands"), ([S, S], "stands"), ([N], "does not stand"), ([N, U], "does not stand"),
        ([S, N], "stands in part"), ([S, N, U], "stands in part"), ([U], "undecided"), ([S, U], "undecided"),
        ([], "undecided"),
    ],
)  # fmt: skip
def test_several_verdicts_on_one_statement_come_to_one_word(verdicts, standing):
    assert board.standing(verdicts) == standing


def test_a_tally_counts_every_verdict_once():
    assert board.tally(iter([S, S, N, U])) == "stands in part (2 of 4 supported, 1 not, 1 undecided)"
    awaiting = Verdict("inconclusive", awaits_runs=True)
    assert (
        board.tally([S, U, awaiting]) == "undecided (1 of 3 supported, 0 not, 1 undecided, 1 awaiting runs)"
    )
    assert board.tally([]) == "undecided (0 of 0 supported, 0 not, 0 undecided)"


def test_every_numbered_statement_lists_each_claim_that_judges_it(verdicts):
    page = board.by_number(bardazzi2026.NUMBERED, claims.ALL, verdicts)
    assert page.count("<tr>") == len(bardazzi2026.NUMBERED) + 1
    for claim in claims.ALL:
        assert page.count(f'href="scoreboard.html#{claim.id}"') == len(claim.numbers)
