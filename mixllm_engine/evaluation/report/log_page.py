"""The sections of a report from a production log."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mixllm_engine.evaluation.estimators import Estimate
from mixllm_engine.evaluation.off_policy import Estimates, OffPolicyEstimate
from mixllm_engine.evaluation.report.drawing import Plot
from mixllm_engine.evaluation.report.log_plots import YOURS
from mixllm_engine.evaluation.report.markup import Markup, element, joined
from mixllm_engine.evaluation.report.model import LogReport, LogSaving
from mixllm_engine.evaluation.report.page import figure, heading, listed, notes, page, prose, table
from mixllm_engine.evaluation.report.wording import QUERIES, dollars, interval, number

_HEADINGS = (
    heading("Way to choose", words=True),
    heading("Estimate", words=True),
    heading("Reward", "0 to 1"),
    heading("Cost", "of 1,000 queries"),
    heading("Worth", "rows"),
    heading("Can the log tell?", words=True),
)
_TERMS = (
    "Nobody knows what the LLMs that were not asked would have answered. The log knows how probable each choice was; "
    "rows that another policy would have chosen more often count more.",
    "IPS: inverse propensity scores. SNIPS: the same, divided by the sum of the weights. DR: doubly robust, a model of "
    "the outcomes corrected by the weighted errors of that model. Intervals are 95 %.",
    "Worth rows: how many rows of its own log the weighted rows are worth. Below 50, intervals may be too narrow.",
    "Only judged answers count. If people judge some LLMs' answers more readily than others', every estimate is "
    "biased.",
)


def log_page(report: LogReport, plots: Mapping[str, Plot]) -> str:
    """Return the document."""
    sections = [
        element("section", element("div", [_card(saving) for saving in report.savings], class_="cards")),
        notes(report.notes),
        element(
            "section",
            element("h2", "What another way to choose would have given"),
            [figure(plot) for plot in plots.values()],
            element("h3", "All estimates"),
            table("All estimates", _HEADINGS, _rows(report)),
        ),
        element("section", element("h2", "What the numbers mean"), listed(_TERMS, class_="verdict")),
    ]
    return page(report.about, sections)


def _card(saving: LogSaving) -> Markup:
    change = saving.cost_percent.value - 100.0
    known = math.isfinite(change) and not saving.warnings
    return element(
        "div",
        element("p", f"{number(change, 0, sign=True)} %" if known else "not known", class_=_look(known and change < 0)),
        element("p", f"cost against always {saving.against}", class_="what"),
        prose(str(saving)),
        class_="card",
    )


def _look(good: bool) -> str:
    return "big" if good else "big bad"


def _rows(report: LogReport) -> list[Markup]:
    first = report.counterfactuals[0].made
    rows = [
        element(
            "tr",
            element("th", YOURS, scope="row"),
            element("td", "as logged", class_="words"),
            _reward(first.reward.logged),
            _cost(first.cost_usd.logged if first.cost_usd else None),
            element("td", f"{first.reward.rows:,}"),
            element("td", "yes", class_="words"),
            class_="ours",
        )
    ]
    for one in report.counterfactuals:
        rows += _estimates(one.name, one.made)
    return rows


def _estimates(name: str, made: OffPolicyEstimate) -> list[Markup]:
    heading = element("th", name, scope="rowgroup", rowspan="3")
    worth = element("td", f"{made.effective_rows:,.0f}", rowspan="3")
    support = element(
        "td",
        listed(made.warnings) if made.warnings else "yes",
        class_="words better" if made.warnings else "words",
        rowspan="3",
    )
    rows = []
    for index, kind in enumerate(("dr", "snips", "ips")):
        own: Estimate = getattr(made.reward, kind)
        cost: Estimate | None = _of(made.cost_usd, kind)
        cells = (element("td", kind.upper(), class_="words"), _reward(own), _cost(cost))
        rows.append(element("tr", heading, *cells, worth, support) if index == 0 else element("tr", *cells))
    return rows


def _of(made: Estimates | None, kind: str) -> Estimate | None:
    if made is None:
        return None
    found: Estimate = getattr(made, kind)
    return found


def _reward(own: Estimate) -> Markup:
    return element("td", number(own.value, 3), element("span", interval(own, 3), class_="gap"))


def _cost(own: Estimate | None) -> Markup:
    if own is None:
        return element("td", "–")
    ends = f"{dollars(QUERIES * own.low)} to {dollars(QUERIES * own.high)}"
    return element("td", joined(dollars(QUERIES * own.value)), element("span", ends, class_="gap"))
