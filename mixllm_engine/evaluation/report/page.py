"""The shell of a report's HTML: one file that needs no network, runs no script, and follows light, dark and paper."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final

from mixllm_engine.evaluation.report.drawing import NARROW, WIDE, Plot
from mixllm_engine.evaluation.report.markup import Markup, element, joined
from mixllm_engine.evaluation.report.model import About
from mixllm_engine.evaluation.report.palette import css_variables

_UNIT: Final = re.compile(r"(?<=\d) (?=(?:%|s)(?:\W|$))")
# the browser itself refuses to load or run anything, should any name ever get through as code
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(about: About, sections: Sequence[Markup]) -> str:
    """Return the whole document; its last section tells how to make it again."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", about.title),
        element("style", _css()),
    )
    top = element(
        "header",
        element("p", f"MixLLM evaluation · {about.date}", class_="eyebrow"),
        element("h1", about.title),
    )
    body = element("body", element("main", top, *sections, _made(about)))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def figure(plot: Plot) -> Markup:
    """Return a drawing with its title and caption, for wide and for narrow screens."""
    return element(
        "figure",
        element("h3", plot.title),
        plot.svg(WIDE),
        plot.svg(NARROW),
        element("ol", [element("li", name) for name in plot.key], class_="key") if plot.key else Markup(),
        element("figcaption", unbroken(plot.caption)),
    )


def notes(told: Sequence[str]) -> Markup:
    """Return warnings in a box, or nothing."""
    if not told:
        return Markup()
    return element("aside", element("h2", "Before you believe it"), listed(told), class_="notes")


def prose(text: str, class_: str | None = None) -> Markup:
    """Return a paragraph."""
    return element("p", unbroken(text), class_=class_)


def unbroken(text: str) -> str:
    """Keep numbers and their units on one line."""
    return _UNIT.sub("\N{NO-BREAK SPACE}", text)


def listed(parts: Sequence[str], class_: str | None = None) -> Markup:
    """Return a list of sentences."""
    return element("ul", [element("li", unbroken(part)) for part in parts], class_=class_)


def heading(title: str, unit: str = "", *, words: bool = False) -> Markup:
    """Return the head of a column of numbers or of words."""
    under = element("span", unit) if unit else Markup()
    return element("th", title, under, scope="col", class_="words" if words else None)


def table(name: str, headings: Sequence[Markup], rows: Sequence[Markup]) -> Markup:
    """Return a table that scrolls sideways where it is too wide; its name is for those who can't see it."""
    head = element("thead", element("tr", headings))
    made = element("table", head, element("tbody", rows))
    return element("div", made, class_="scroll", tabindex="0", role="region", aria_label=name)


def _css() -> Markup:
    style = files("mixllm_engine.evaluation.report").joinpath("report.css").read_text(encoding="utf-8")
    dark = f"@media screen and (prefers-color-scheme: dark){{:root{{{css_variables(dark=True)}}}}}"
    return Markup(f":root{{{css_variables(dark=False)}}}\n{dark}\n{style}")


def _made(about: About) -> Markup:
    facts = dict(about.data)
    if about.learned_share is not None:
        facts["Learned from"] = f"{100 * about.learned_share:g} % of the queries, at random; the rest is the stream"
    if about.seeds:
        facts["Seeds"] = ", ".join(str(seed) for seed in about.seeds)
    configuration = json.dumps(about.configuration, indent=2, ensure_ascii=False)
    return element(
        "section",
        element("h2", "How this was made"),
        _facts(facts),
        element("h3", "To make it again"),
        element("pre", element("code", about.command)),
        element("h3", "Versions"),
        _facts(about.versions),
        element("details", element("summary", "Configuration"), element("pre", element("code", configuration))),
    )


def _facts(facts: Mapping[str, str]) -> Markup:
    return element(
        "dl", [joined(element("dt", key), element("dd", value)) for key, value in facts.items()], class_="facts"
    )
