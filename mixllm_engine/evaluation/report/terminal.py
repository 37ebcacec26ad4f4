"""A report in the terminal: the headline, who wins, and the table."""

from __future__ import annotations

from typing import Final

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mixllm_engine.evaluation.estimators import Estimate
from mixllm_engine.evaluation.report.log_plots import YOURS
from mixllm_engine.evaluation.report.model import OURS, Contest, LogReport, Measure, Report
from mixllm_engine.evaluation.report.verdict import better, measured, ranked, verdict
from mixllm_engine.evaluation.report.wording import QUERIES, dollars, interval, number, spread

_WIDE: Final = 130  # columns of a terminal that shows standard errors


def show(report: Report | LogReport, console: Console) -> None:
    """Print what matters of a report."""
    console.print(f"[bold]{escape(report.about.title)}[/bold]")
    savings = report.contests[0].savings if isinstance(report, Report) else report.savings
    for saving in savings:
        console.print(escape(str(saving)))
    for note in report.notes:
        console.print(f"[yellow]warning:[/yellow] {escape(note)}")
    if isinstance(report, LogReport):
        console.print(_estimates(report))
        return
    for contest in report.contests:
        console.print(_contest(contest, report.measures, errors=console.width >= _WIDE))
        for sentence in verdict(contest, report.measures):
            console.print(escape(sentence))


def _contest(contest: Contest, measures: tuple[Measure, ...], *, errors: bool) -> Table:
    columns = measured(contest, measures)
    caption = f"mean{' ± standard error' if errors else ''}; ▲ better than {OURS} by more than the 95 % interval"
    table = Table(title=escape(contest.name), caption=caption, box=SIMPLE, collapse_padding=True)
    table.add_column("system", overflow="fold")
    for column in columns:
        table.add_column(escape(column.key), justify="right", no_wrap=True)
    for one in ranked(contest, measures):
        cells = []
        for column in columns:
            score = one.scores.get(column.key)
            if score is None:
                cells.append("")
                continue
            mark = "▲ " if one.role == "rival" and better(column, score) else ""
            if score.missed_percent >= 100:
                cells.append("missed")
                continue
            error = spread(score, column) if errors else ""
            cells.append(f"{mark}{number(score.mean, column.decimals)} {error}".rstrip())
        table.add_row(escape(one.name), *cells, style="bold" if one.role == "ours" else None)
    return table


def _estimates(report: LogReport) -> Table:
    table = Table(title="Doubly robust estimates with 95 % intervals")
    for heading in ("way to choose", "reward", "cost of 1,000 queries", "worth rows", "warnings"):
        table.add_column(heading, overflow="fold")
    first = report.counterfactuals[0].made
    table.add_row(
        YOURS,
        _reward(first.reward.logged),
        _cost(first.cost_usd.logged if first.cost_usd else None),
        f"{first.reward.rows:,}",
        "",
        style="bold",
    )
    for one in report.counterfactuals:
        cost = one.made.cost_usd.dr if one.made.cost_usd else None
        worth, warned = f"{one.made.effective_rows:,.0f}", escape("; ".join(one.made.warnings))
        table.add_row(escape(one.name), _reward(one.made.reward.dr), _cost(cost), worth, warned)
    return table


def _reward(own: Estimate) -> str:
    return f"{number(own.value, 3)} ({interval(own, 3)})"


def _cost(own: Estimate | None) -> str:
    if own is None:
        return ""
    return f"{dollars(QUERIES * own.value)} ({dollars(QUERIES * own.low)} to {dollars(QUERIES * own.high)})"
