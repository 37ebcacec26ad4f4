"""A report as Markdown: what stands in a repository, or in a discussion."""

from __future__ import annotations

from collections.abc import Sequence

from mixllm_engine.evaluation.report.model import OURS, Contest, Contestant, Measure, Report
from mixllm_engine.evaluation.report.verdict import better, measured, ranked, verdict
from mixllm_engine.evaluation.report.wording import interval, number, spread


def markdown(report: Report) -> str:
    """Return headline, tables and verdicts; a cell is mean ± standard error (interval of the difference to MixLLM)."""
    lines = [f"# {report.about.title}", ""]
    lines += [f"- {saving}" for saving in report.contests[0].savings]
    lines += [f"- {note}" for note in report.notes]
    for contest in report.contests:
        lines += ["", f"## {contest.name}", "", contest.about, "", *_table(contest, report.measures), ""]
        lines += [f"- {sentence}" for sentence in verdict(contest, report.measures)]
    seeds = ", ".join(map(str, report.about.seeds))
    lines += ["", f"Seeds {seeds}. Made with `{report.about.command}` on {report.about.date}.", ""]
    return "\n".join(lines)


def _table(contest: Contest, measures: Sequence[Measure]) -> list[str]:
    columns = measured(contest, measures)
    headings = ["System", *(f"{column.title}, {column.unit}" for column in columns)]
    rows = [_row(one, columns) for one in ranked(contest, measures)]
    return [_line(headings), _line(["---", *("---:" for _ in columns)]), *(_line(row) for row in rows)]


def _row(one: Contestant, columns: Sequence[Measure]) -> list[str]:
    name = f"**{one.name}**" if one.role == "ours" else f"{one.name} (a bound)" if one.role == "bound" else one.name
    return [name, *(_cell(one, column) for column in columns)]


def _cell(one: Contestant, column: Measure) -> str:
    score = one.scores.get(column.key)
    if score is None:
        return ""
    if score.missed_percent >= 100:
        return "not reached"
    wins = one.role == "rival" and better(column, score)
    parts = ["▲" if wins else "", number(score.mean, column.decimals), spread(score, column)]
    if score.difference is not None and one.name != OURS:
        parts.append(f"({interval(score.difference, column.decimals, sign=True)})")
    return " ".join(part for part in parts if part)


def _line(cells: Sequence[str]) -> str:
    escaped = [" ".join(cell.replace("|", "\\|").split()) for cell in cells]
    return f"| {' | '.join(escaped)} |"
