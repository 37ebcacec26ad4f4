"""From what is to be seen to HTML: every text is escaped, every number has its unit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from mixllm_engine.app.demo.screen import Alert, Answer, CandidateRow, Choice, LearnedRow, Screen
from mixllm_engine.app.demo.tally import Savings
from mixllm_engine.evaluation.report.markup import Child, Markup, element, joined
from mixllm_engine.evaluation.report.wording import number

_PERCENT: Final = 100.0
# part of a score -> what it is called
PARTS: Final = {
    "quality": "quality",
    "cost": "cost",
    "late": "may be late",
    "unsure": "unsure",
    "feedback": "feedback",
    "optimism": "given in advance",
}
_NOTHING: Final = 5e-5  # parts below this are not shown
_TOLD: Final = 5e-4  # and below this not told
_EMPTY: Final = element("p", "Ask a query to see it.", class_="hint")
_UNKNOWN: Final = element("p", "–", class_="hint")


def cents(usd: float) -> str:
    """Write an amount of dollars in cents, with three digits that count.

    Examples
    --------
    >>> cents(0.0152), cents(0.000025), cents(0.0)
    ('1.52', '0.0025', '0')
    """
    amount = _PERCENT * usd
    if amount == 0.0:
        return "0"
    decimals = max(2 - math.floor(math.log10(abs(amount))), 0)
    text = number(amount, min(decimals, 8))
    return text.rstrip("0").rstrip(".") if "." in text else text


def panels(screen: Screen) -> dict[str, Markup]:
    """Return every panel but the answer and the drawings, by the name of its place in the page."""
    choice = screen.choice
    return {
        "choice": chosen(choice) if choice else _EMPTY,
        "candidates": candidates(choice) if choice else Markup(),
        "why": why(choice) if choice else _EMPTY,
        "excluded": excluded(choice) if choice else _UNKNOWN,
        "counterfactual": counterfactual(choice) if choice else _UNKNOWN,
        "judges": judges(screen.judges),
        "receipt": sentence(screen.receipt),
        "learned": learned(screen.learned),
        "alerts": alerts(screen.alerts),
        "shares": shares(screen.shares),
        "savings": savings(screen.savings, screen.dearest),
        "spending": spending(screen.savings),
        "progress": sentence(screen.progress),
        "pool-message": sentence(screen.message),
    }


def sentence(text: str) -> Markup:
    """Write a sentence."""
    return element("p", text, class_="said") if text else Markup()


def trouble(text: str) -> Markup:
    """Write what went wrong."""
    return element("p", text, class_="trouble")


# -- the decision ----------------------------------------------------------------------------------------------------


def chosen(choice: Choice) -> Markup:
    """Say the choice in one sentence."""
    row = next(row for row in choice.rows if row.chosen)
    how = "was drawn to learn more about it" if choice.explored else "has the best score"
    budget = choice.budget.replace("_", " ")
    rest = (
        f" {how} at a {budget} budget: an expected quality of {row.quality:.2f} for {cents(row.cost_usd)} US cents, "
        f"in about {row.waiting_s:.1f} s."
    )
    return element("p", element("strong", choice.candidate), rest, class_="choice")


def candidates(choice: Choice) -> Markup:
    """Draw the table of all LLMs for the present query."""
    heads = [
        ("LLM", ""),
        ("Expected quality", "0 to 1"),
        ("Expected cost", "US cents"),
        ("Waiting time", "s"),
        ("Score", "no unit"),
    ]
    if choice.sample:
        heads += [("True quality", "recorded, 0 to 1"), ("True cost", "recorded, US cents")]
    body = [_candidate(row, choice.sample, _labels(heads)) for row in choice.rows]
    return table("What is expected of every LLM for this query", heads, body)


def _candidate(row: CandidateRow, sample: bool, heads: Sequence[str]) -> Markup:
    cells: list[Child] = [
        quality_bar(row.quality),
        cents(row.cost_usd),
        f"{row.waiting_s:.1f}",
        number(row.score, 3),
    ]
    if sample:
        known = row.recorded
        cells += ["–", "–"] if known is None else [f"{known.quality:.2f}", cents(known.cost_usd)]
    note = "chosen" if row.chosen else "excluded" if not row.eligible else ""
    name = joined(row.name, element("span", note, class_="note") if note else "")
    state = "chosen" if row.chosen else None if row.eligible else "excluded"
    return line(row.name, name, heads, cells, class_=state, aria_current="true" if row.chosen else None)


def quality_bar(quality: float) -> Markup:
    """Write a quality with a bar of its length."""
    width = f"width:{_PERCENT * min(max(quality, 0.0), 1.0):.1f}%"
    bar = element("span", element("i", style=width), class_="meter", aria_hidden="true")
    return joined(element("span", f"{quality:.3f}"), bar)


def why(choice: Choice) -> Markup:
    """Draw what every score is made of: what counts for an LLM to the right of 0, what counts against it left of it."""
    shown = [part for part in PARTS if any(abs(row.parts[part]) > _NOTHING for row in choice.rows)]
    left = max((_sum(row, -1) for row in choice.rows), default=0.0)
    right = max((_sum(row, +1) for row in choice.rows), default=0.0)
    scale = _PERCENT / ((left + right) or 1.0)
    legend = element(
        "ul",
        [element("li", element("i", class_=f"swatch part-{part}"), PARTS[part]) for part in shown],
        class_="legend",
        aria_label="Parts of the score",
    )
    rows = [_stacked(row, shown, left, scale) for row in choice.rows]
    caption = (
        "Score, no unit: what counts for an LLM stands to the right of the line at 0, what counts against it left."
    )
    return element("figure", legend, element("ul", rows, class_="stacks"), element("figcaption", caption))


def _sum(row: CandidateRow, sign: int) -> float:
    return sum(sign * part for part in row.parts.values() if sign * part > 0.0)


def _stacked(row: CandidateRow, shown: Sequence[str], left: float, scale: float) -> Markup:
    bars, before, after = [], left, left
    for part in shown:
        width = abs(row.parts[part])
        if width <= _NOTHING:
            continue
        if row.parts[part] < 0.0:
            before -= width
            start = before
        else:
            start = after
            after += width
        place = f"left:{scale * start:.2f}%;width:{scale * width:.2f}%"
        bars.append(element("i", class_=f"part-{part}", style=place))
    zero = element("b", style=f"left:{scale * left:.2f}%")
    told = [f"{PARTS[part]} {number(row.parts[part], 3, sign=True)}" for part in shown if abs(row.parts[part]) >= _TOLD]
    return element(
        "li",
        element("span", row.name, class_="who"),
        element("span", number(row.score, 3), class_="score"),
        element("span", bars, zero, class_="stack", aria_hidden="true"),
        element("span", " · ".join(told), class_="told"),
        class_="chosen" if row.chosen else None if row.eligible else "excluded",
    )


def excluded(choice: Choice) -> Markup:
    """Say who was excluded, and why."""
    out = [row for row in choice.rows if not row.eligible]
    if not out:
        return element("p", "Nobody was excluded.", class_="said")
    return element("ul", [element("li", element("strong", row.name), f": {row.reason}") for row in out], class_="list")


def counterfactual(choice: Choice) -> Markup:
    """Say what would have to change for the runner-up to win."""
    change = choice.counterfactual
    if change is None:
        return sentence("There is no runner-up.")
    if change.gap < 0.0:
        return sentence(f"{change.runner_up} has a better score, by {-change.gap:.3f}: it was not taken this time.")
    other = next(row for row in choice.rows if row.name == change.runner_up)
    ways = [
        f"an expected quality of {change.quality:.3f} instead of {other.quality:.3f}"
        if change.quality is not None
        else "",
        f"a cost of {cents(change.cost_usd)} instead of {cents(other.cost_usd)} US cents"
        if change.cost_usd is not None
        else "",
        f"a willingness to pay of {change.willingness_to_pay:.3g} instead of {choice.willingness_to_pay:.3g}"
        if change.willingness_to_pay is not None
        else "",
    ]
    needed = ", or ".join(way for way in ways if way)
    lost = f"{change.runner_up} is behind by {change.gap:.3f}"
    return sentence(f"{lost}. To draw level it would need {needed}." if needed else f"{lost}; no single change helps.")


# -- the answer ------------------------------------------------------------------------------------------------------


def answered(answer: Answer) -> Markup:
    """Show an answer as plain text, or the recorded outcome."""
    if answer.recorded is None:
        words = answer.text or ("" if answer.done else "…")
        return element("div", words, class_="words") if words else Markup()
    known = answer.recorded
    facts = [
        ("True quality", f"{known.quality:.2f} of 1"),
        ("True cost", f"{cents(known.cost_usd)} US cents"),
        ("Length", f"{known.response_tokens:,.0f} tokens"),
    ]
    return element("dl", [element("div", element("dt", t), element("dd", d)) for t, d in facts], class_="facts")


def judges(name: str | None) -> Markup:
    """Say whom a thumb would judge."""
    return sentence("Thumbs wait for an answer." if name is None else f"Your judgement teaches: {name}")


# -- what was learned ------------------------------------------------------------------------------------------------


def learned(rows: Iterable[LearnedRow]) -> Markup:
    """Draw the table of what is known of every LLM."""
    heads = [
        ("LLM", ""),
        ("Labels", "count"),
        ("Learned mean quality", "0 to 1, with 95 % interval"),
        ("Moved by you", "0 to 1"),
        ("Expected here", "for this query, 0 to 1"),
    ]
    return table("What is known of every LLM", heads, [_known(row, _labels(heads)) for row in rows])


def _known(row: LearnedRow, heads: Sequence[str]) -> Markup:
    mean: Child = "–"
    if row.mean is not None and row.low is not None and row.high is not None:
        spread = element("span", f"{row.low:.3f} to {row.high:.3f}", class_="interval")
        mean = joined(element("span", f"{row.mean:.4f}", class_="mean"), " ", spread)
    expected: Child = "–"
    if row.expected is not None:
        before = row.expected if row.expected_before is None else row.expected_before
        expected = joined(element("span", f"{row.expected:.4f}"), " ", _moved(row.expected - before))
    cells: list[Child] = [f"{row.labels:.1f}".removesuffix(".0"), mean, _moved(row.moved), expected]
    return line(row.name, row.name, heads, cells)


def _moved(by: float) -> Markup:
    if abs(by) < _NOTHING:
        return element("span", "±0", class_="same")
    return element("span", number(by, 4, sign=True), class_="up" if by > 0.0 else "down")


def alerts(found: Sequence[Alert]) -> Markup:
    """Say whose quality has shifted."""
    if not found:
        return element("p", "Drift alerts: none", class_="said")
    told = [
        element(
            "li", element("strong", one.candidate), f": {number(one.shift, 2, sign=True)} since {one.labels} labels"
        )
        for one in found
    ]
    return joined(element("p", "Drift alerts: the quality has shifted of", class_="said"), element("ul", told))


# -- the visit so far ------------------------------------------------------------------------------------------------


def shares(counts: Sequence[tuple[str, int]]) -> Markup:
    """Draw how often every LLM was chosen."""
    total = sum(count for _, count in counts)
    rows = []
    for place, (name, count) in enumerate(counts, start=1):
        share = _PERCENT * count / total if total else 0.0
        bar = element("i", class_=f"llm-{(place - 1) % 7 + 1}", style=f"width:{share:.1f}%")
        text = f"{share:.0f} % ({count})"
        meter = element("span", bar, class_="meter", aria_hidden="true")
        rows.append(element("li", element("span", name, class_="who"), element("span", text), meter))
    caption = f"Share of this visit's {total} {_queries(total)}, in %"
    return element("figure", element("ul", rows, class_="shares"), element("figcaption", caption))


def savings(made: Savings | None, dearest: str) -> Markup:
    """Say what was spent against always the dearest LLM, and what that lost in quality."""
    if made is None:
        return element("p", f"Nothing was spent yet; compared with always {dearest}.", class_="hint")
    spent, whole = made.spent_usd[-1], made.dearest_usd[-1]
    saved = _PERCENT * (1.0 - spent / whole) if whole else 0.0
    lost = made.quality - made.dearest_quality
    by = "recorded outcomes" if made.recorded == made.queries else "expected values"
    if 0 < made.recorded < made.queries:
        by = f"recorded outcomes for {made.recorded} {_queries(made.recorded)}, expected values for the others"
    return joined(
        element("p", element("strong", f"{number(saved, 1)} %", class_="big"), " of the cost saved", class_="headline"),
        element("p", f"{cents(spent)} US cents spent, instead of {cents(whole)} for always {dearest}.", class_="said"),
        element(
            "p",
            f"Mean quality {made.quality:.3f} instead of {made.dearest_quality:.3f} ({number(lost, 3, sign=True)}), "
            f"by {by}.",
            class_="said",
        ),
    )


def spending(made: Savings | None) -> Markup:
    """Draw the sums spent over the visit, beside what always the dearest LLM would have cost."""
    if made is None:
        return Markup()
    most = max(made.dearest_usd[-1], made.spent_usd[-1]) or 1.0
    lines = [
        element("polyline", points=_along(sums, most), class_=kind)
        for kind, sums in (("dearest", made.dearest_usd), ("spent", made.spent_usd))
    ]
    told = (
        f"After {made.queries} queries {cents(made.spent_usd[-1])} US cents, instead of {cents(made.dearest_usd[-1])}."
    )
    drawn = element("svg", lines, viewBox="0 0 100 100", preserveAspectRatio="none", role="img", aria_label=told)
    scale = element("div", element("span", cents(most)), element("span", "0"), class_="scale", aria_hidden="true")
    names = [("dearest", "always the dearest"), ("spent", "spent")]
    legend = [element("li", element("i", class_=f"stroke {kind}"), name) for kind, name in names]
    caption = f"Sum in US cents over the {made.queries} {_queries(made.queries)} of this visit."
    return element(
        "figure",
        element("ul", legend, class_="legend"),
        element("div", scale, drawn, class_="sums"),
        element("figcaption", caption),
    )


def _along(sums: Sequence[float], most: float) -> str:
    """Return a line from nothing through all sums, in percent of the width and of the highest sum, from above."""
    points = [(0.0, 0.0), *((place / len(sums), value / most) for place, value in enumerate(sums, start=1))]
    return " ".join(f"{_PERCENT * x:.2f},{_PERCENT * (1.0 - y):.2f}" for x, y in points)


def _queries(count: int) -> str:
    return "query" if count == 1 else "queries"


# -- tables ----------------------------------------------------------------------------------------------------------


def table(caption: str, heads: Sequence[tuple[str, str]], body: Sequence[Markup]) -> Markup:
    """Draw a table; on a narrow screen its rows become cards, in which every cell carries its heading."""
    cells = [
        element("th", name, element("span", unit, class_="unit") if unit else "", scope="col") for name, unit in heads
    ]
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", cells)),
        element("tbody", body),
    )


def _labels(heads: Sequence[tuple[str, str]]) -> list[str]:
    """Return the headings of all columns but the first, with their units, for cells that carry their own."""
    return [f"{name}, {unit}" for name, unit in heads[1:]]


def line(
    candidate: str, name: Child, heads: Sequence[str], cells: Sequence[Child], /, **attributes: str | None
) -> Markup:
    """Draw a row of a table about an LLM."""
    drawn = [element("td", cell, data_label=head) for head, cell in zip(heads, cells, strict=True)]
    return element("tr", element("th", name, scope="row"), drawn, data_candidate=candidate, **attributes)
