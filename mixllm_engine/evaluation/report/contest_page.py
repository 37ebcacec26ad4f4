"""The sections of a replay's report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mixllm_engine.evaluation.frontier import NOT_REACHED_PERCENT
from mixllm_engine.evaluation.report.drawing import Plot
from mixllm_engine.evaluation.report.markup import Child, Markup, element
from mixllm_engine.evaluation.report.model import OURS, Contest, Contestant, Measure, Report, Saving
from mixllm_engine.evaluation.report.page import figure, heading, listed, notes, page, prose, table, unbroken
from mixllm_engine.evaluation.report.verdict import better, leading, measured, ranked, title, verdict
from mixllm_engine.evaluation.report.wording import interval, number, spread

_TERMS = (
    "Cost at 99 %: what it costs to reach 99 % of the quality of the best single LLM, in percent of what that LLM "
    "costs alone (the dearest one, where it is free). Below 100 is a saving. What is never reached counts as "
    f"{NOT_REACHED_PERCENT:.0f}.",
    "Hull: the best that a system reaches by using one of its settings for some queries and another for the rest.",
    "Area: mean quality under the hull between the mean costs of the cheapest and the dearest LLM. AIQ is "
    "RouterBench's own number of this kind, whose range of costs depends on the systems compared.",
)


def contest_page(report: Report, plots: Mapping[str, Plot]) -> str:
    """Return the document; `plots` by name, those of a contest begin with its number."""
    by_contest = [
        _contest(contest, report.measures, [plot for name, plot in plots.items() if name.startswith(f"{number}-")])
        for number, contest in enumerate(report.contests, start=1)
    ]
    over_time = [plot for name, plot in plots.items() if not name[0].isdigit()]
    sections = [_headline(report), notes(report.notes), *by_contest]
    if over_time:
        sections.append(element("section", element("h2", "Over time"), [figure(plot) for plot in over_time]))
    sections.append(element("section", element("h2", "What the numbers mean"), listed(_TERMS, class_="verdict")))
    return page(report.about, sections)


def _headline(report: Report) -> Markup:
    first = report.contests[0]
    return element("section", element("div", [_card(saving) for saving in first.savings], class_="cards"))


def _card(saving: Saving) -> Markup:
    change = saving.cost_percent.value - 100.0
    missed = saving.missed_percent >= 100
    big = "not reached" if missed else f"{number(change, 0, sign=True)} %"
    return element(
        "div",
        element("p", big, class_="big bad" if missed or change >= 0 else "big"),
        prose(f"cost at {saving.quality_percent:g} % of {saving.best}'s quality", class_="what"),
        Markup() if missed else _bar(saving),
        prose(str(saving)),
        class_="card",
    )


def _bar(saving: Saving) -> Markup:
    """Show the cost on a track that stands for the best LLM's, with the ends of its interval."""
    cost = saving.cost_percent
    full = max(100.0, cost.value, cost.high)  # NaN loses any comparison
    parts = [element("i", class_="fill", style=f"width:{100 * cost.value / full:.1f}%")]
    if cost.low <= cost.high:
        left, right = 100 * cost.low / full, 100 - 100 * cost.high / full
        parts.append(element("i", class_="ends", style=f"left:{left:.1f}%;right:{right:.1f}%"))
    return element("div", parts, class_="bar", aria_hidden="true")


def _contest(contest: Contest, measures: Sequence[Measure], plots: Sequence[Plot]) -> Markup:
    return element(
        "section",
        element("h2", contest.name),
        prose(contest.about, class_="lead"),
        [figure(plot) for plot in plots],
        element("h3", f"Is any rival better than {OURS}?"),
        listed(verdict(contest, measures), class_="verdict"),
        element(
            "div",
            element("h3", "All systems"),
            prose(_legend(contest, measures), class_="small"),
            _table(contest, measures),
            class_="tables",
        ),
    )


def _legend(contest: Contest, measures: Sequence[Measure]) -> str:
    order = leading(contest, measures)
    told = [f"Ordered by {title(order)}."] if order else []
    scores = [score for one in contest.contestants for score in one.scores.values()]
    if any(math.isfinite(score.standard_error) for score in scores):
        told.append("\N{PLUS-MINUS SIGN} is the standard error over the splits.")
    if any(score.difference is not None for score in scores):
        told.append(f"Below stands the 95 % interval of the difference to {OURS}, on the same splits.")
        told.append(f"▲ is better than {OURS} by more than that interval.")
    if any(score.missed_percent > 0 for score in scores):
        told.append(f"A split that misses a quality counts as {NOT_REACHED_PERCENT:.0f}.")
    return " ".join(told)


def _table(contest: Contest, measures: Sequence[Measure]) -> Markup:
    columns = measured(contest, measures)
    headings = [heading("System", words=True), *(heading(column.title, column.unit) for column in columns)]
    return table(f"All systems: {contest.name}", headings, [_row(one, columns) for one in ranked(contest, measures)])


def _row(one: Contestant, columns: Sequence[Measure]) -> Markup:
    ahead = sum(_wins(one, column) for column in columns)
    if one.role == "bound":
        under = element("span", "a bound, no rival", class_="role")
    elif ahead:
        under = element("span", f"▲ better than {OURS} in {ahead} of {len(columns)}", class_="role better")
    else:
        under = Markup()
    return element(
        "tr",
        element("th", one.name, under, scope="row"),
        [_cell(one, column) for column in columns],
        class_="ours" if one.role == "ours" else None,
    )


def _wins(one: Contestant, column: Measure) -> bool:
    return one.role == "rival" and column.key in one.scores and better(column, one.scores[column.key])


def _cell(one: Contestant, column: Measure) -> Markup:
    score = one.scores.get(column.key)
    if score is None:
        return element("td", "–")
    if score.missed_percent >= 100:
        return element("td", "not reached", class_="missed")
    wins = _wins(one, column)
    parts: list[Child] = ["▲ " if wins else "", number(score.mean, column.decimals)]
    if spread(score, column):
        parts += [" ", element("span", spread(score, column), class_="se")]
    if score.difference is not None and one.role != "ours":
        parts.append(element("span", interval(score.difference, column.decimals, sign=True), class_="gap"))
    if score.missed_percent > 0:
        parts.append(element("span", unbroken(f"missed by {score.missed_percent:.0f} %"), class_="gap"))
    return element("td", *parts, class_="better" if wins else None)
