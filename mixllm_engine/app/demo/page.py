"""The page: Gradio's components, and what happens when they are used. What they show is made elsewhere.

Everything that a visitor or an LLM wrote reaches the page as escaped HTML, a text box or a list, never as Markdown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from mixllm_engine.app.demo import drawings, views
from mixllm_engine.app.demo.pool import offered
from mixllm_engine.app.demo.session import LONGEST_QUERY, Visit
from mixllm_engine.app.demo.visits import Visits
from mixllm_engine.errors import MixLLMError
from mixllm_engine.evaluation.report.markup import Markup, element
from mixllm_engine.evaluation.report.palette import css_variables

TITLE: Final = "MixLLM"
BUDGETS: Final = ("Very Low", "Low", "Medium", "High", "Very High")
_USUAL: Final = "Medium"
_IN_A_ROW: Final = 20
_EVERY_S: Final = 0.1  # more often than this nobody sees an answer grow
# as the page is read; `answer` and `source` are filled by whoever answers, the curve after the rest
_PANELS: Final = (
    "choice",
    "candidates",
    "why",
    "excluded",
    "counterfactual",
    "judges",
    "receipt",
    "learned",
    "alerts",
    "shares",
    "savings",
    "spending",
    "progress",
    "pool-message",
)
_FONTS: Final = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "Arial", "sans-serif")
_MONO: Final = ("ui-monospace", "Menlo", "Consolas", "Liberation Mono", "monospace")


def style() -> str:
    """Return the page's style sheet, with the colours of light and dark."""
    sheet = _beside("demo.css")
    return f":root{{{css_variables(False)}}}.dark{{{css_variables(True)}}}\n{sheet}"


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def theme() -> Any:
    """Return a theme with the page's own colours and the system's fonts, for which nothing is fetched."""
    import gradio as gr

    colours = {
        "body_background_fill": "var(--page)",
        "body_text_color": "var(--ink)",
        "body_text_color_subdued": "var(--muted)",
        "background_fill_primary": "var(--page)",
        "background_fill_secondary": "var(--raised)",
        "block_background_fill": "transparent",
        "block_label_text_color": "var(--ink)",
        "block_title_text_color": "var(--ink)",
        "border_color_primary": "var(--others)",
        "input_background_fill": "var(--field)",
        "input_border_color": "var(--others)",
        "input_border_color_focus": "var(--ours)",
        "input_border_width": "1px",
        "button_border_width": "1px",
        "checkbox_label_border_width": "1px",
        "checkbox_label_border_color": "var(--others)",
        "checkbox_label_border_color_selected": "var(--ours)",
        "input_placeholder_color": "var(--muted)",
        "button_primary_background_fill": "var(--ours)",
        "button_primary_background_fill_hover": "var(--ours)",
        "button_primary_text_color": "var(--page)",
        "button_secondary_background_fill": "var(--field)",
        "button_secondary_background_fill_hover": "var(--faint)",
        "button_secondary_text_color": "var(--ink)",
        "button_secondary_border_color": "var(--others)",
        "checkbox_label_background_fill": "var(--field)",
        "checkbox_label_background_fill_hover": "var(--faint)",
        "checkbox_label_background_fill_selected": "var(--field)",
        "checkbox_label_text_color": "var(--ink)",
        "checkbox_label_text_color_selected": "var(--ink)",
        "checkbox_background_color": "var(--page)",
        "checkbox_background_color_selected": "var(--ours)",
        "checkbox_border_color": "var(--muted)",
        "checkbox_border_color_selected": "var(--ours)",
    }
    both = colours | {f"{name}_dark": value for name, value in colours.items()}
    return gr.themes.Base(font=list(_FONTS), font_mono=list(_MONO)).set(**both)


def build(visits: Visits) -> Any:
    """Build the page for all visitors, as Gradio's ``Blocks``."""
    import gradio as gr

    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        _Page(gr, page, visits)
    page.queue(default_concurrency_limit=8, api_open=False)
    return page


def inert(markup: str) -> str:
    """Return HTML in which nothing is left for a template engine: Gradio's HTML component has two of them."""
    return markup.replace("$", "&#36;").replace("{", "&#123;").replace("}", "&#125;").replace("`", "&#96;")


class _Page:
    """The components, by name, and the events between them."""

    def __init__(self, gr: Any, page: Any, visits: Visits) -> None:
        self._gr = gr
        self._page = page
        self._visits = visits
        # what went wrong last, by panel: it stands there until something else is tried
        self._troubles: WeakKeyDictionary[Visit, dict[str, Markup]] = WeakKeyDictionary()
        self._key = gr.State("")
        self._places: dict[str, Any] = {}
        self._lay_out()
        self._connect()

    # -- what is there -----------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        gr = self._gr
        self._text(
            element(
                "header",
                element("h1", TITLE),
                element("p", "Which LLM should answer this? Ask, judge, and watch the router learn from it."),
            )
        )
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=4, min_width=330, elem_classes="side"):
                self._ask_card()
                self._answer_card()
            with gr.Column(scale=7, min_width=330):
                self._choice_card()
                self._why_card()
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=1, min_width=330):
                self._learned_card()
                self._pool_card()
            with gr.Column(scale=1, min_width=330):
                self._curve_card()
                self._visit_card()

    def _ask_card(self) -> None:
        gr = self._gr
        with gr.Column(elem_classes="card"):
            self._text(element("h2", "Ask"))
            samples = [sample.label for sample in self._visits.stage.samples.offered]
            self._sample = gr.Dropdown(
                samples, value=None, label="Sample query, with recorded outcomes", elem_id="sample", filterable=True
            )
            self._query = gr.Textbox(
                label="Query: a sample, or your own",
                placeholder="What is the capital of France?",
                lines=1,
                max_lines=7,
                max_length=LONGEST_QUERY,
                elem_id="query",
                interactive=False,
            )
            self._budget = gr.Radio(list(BUDGETS), value=_USUAL, label="Budget", elem_id="budget", interactive=False)
            self._ask = gr.Button("Ask", variant="primary", elem_id="ask", interactive=False)

    def _answer_card(self) -> None:
        gr = self._gr
        with gr.Column(elem_classes="card"):
            self._text(element("h2", "Answer"))
            self._place("source", element("p", "Nobody was asked yet.", class_="hint"))
            self._place("answer")
            self._place("judges")
            with gr.Row(elem_classes="thumbs"):
                self._up = gr.Button("Good", elem_id="up", interactive=False, min_width=80)
                self._down = gr.Button("Bad", elem_id="down", interactive=False, min_width=80)
                self._grade = gr.Button("Feed back the recorded quality", elem_id="grade", interactive=False)
            self._place("receipt")

    def _choice_card(self) -> None:
        with self._gr.Column(elem_classes="card"):
            self._text(element("h2", "Choice"))
            self._place("choice")
            self._place("candidates")

    def _why_card(self) -> None:
        with self._gr.Column(elem_classes="card"):
            self._text(element("h2", "Why this one"))
            self._place("why")
            self._text(element("h3", "What would have to change"))
            self._place("counterfactual")
            self._text(element("h3", "Excluded"))
            self._place("excluded")

    def _learned_card(self) -> None:
        gr = self._gr
        with gr.Column(elem_classes="card"):
            self._text(element("h2", "What was learned"))
            self._place("learned")
            self._place("alerts")
            self._stream = gr.Button(
                f"Run {_IN_A_ROW} samples with recorded feedback", elem_id="stream", interactive=False
            )
            self._place("progress")

    def _curve_card(self) -> None:
        with self._gr.Column(elem_classes="card"):
            self._text(element("h2", "Cost and quality"))
            self._place("curve")

    def _visit_card(self) -> None:
        with self._gr.Column(elem_classes="card"):
            self._text(element("h2", "This visit"))
            self._place("savings")
            self._place("spending")
            self._place("shares")

    def _pool_card(self) -> None:
        gr = self._gr
        with gr.Column(elem_classes="card"):
            self._text(element("h2", "LLMs in the pool"))
            self._model = gr.Dropdown(
                offered(),
                value=None,
                label="Add: LiteLLM's name of a model",
                allow_custom_value=True,
                elem_id="add-model",
            )
            with gr.Row(elem_classes="fields"):
                self._like = gr.Dropdown([], value=None, label="Expected to be like", elem_id="add-like", min_width=200)
                self._add = gr.Button("Add", elem_id="add", min_width=90, interactive=False)
            with gr.Row(elem_classes="fields"):
                self._leaving = gr.Dropdown([], value=None, label="Remove", elem_id="remove-name", min_width=200)
                self._remove = gr.Button("Remove", elem_id="remove", min_width=90, interactive=False)
            self._place("pool-message")

    def _text(self, markup: Markup) -> None:
        self._gr.HTML(inert(markup), apply_default_css=False)

    def _place(self, name: str, markup: Markup | None = None) -> None:
        self._places[name] = self._gr.HTML(inert(markup or Markup()), elem_id=name, apply_default_css=False)

    # -- what happens ------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        key, query, budget = self._key, self._query, self._budget
        panels = [*(self._places[name] for name in _PANELS), self._up, self._down, self._grade]
        pool = [self._like, self._leaving]
        drawn = self._places["curve"]
        answer = [self._places["source"], self._places["answer"]]
        quiet = {"show_progress": "hidden", "api_visibility": "private"}

        # Until the visit has begun it has no key; what would need one can't be used before.
        waiting = [query, budget, self._ask, self._stream, self._add, self._remove]
        begun = self._page.load(self._begin, None, [key, *panels, *pool, *waiting], **quiet)
        begun.then(None, js=_beside("demo.js"))
        begun.then(self._draw, key, drawn, **quiet)
        self._sample.input(self._take, self._sample, query, **quiet)
        asked = self._gr.on([self._ask.click, query.submit], self._decide, [key, query, budget], panels, **quiet)
        again = budget.input(self._rebudget, [key, budget], panels, trigger_mode="always_last", **quiet)
        for decided in (asked, again):
            answered = decided.success(self._answer, key, answer, trigger_mode="multiple", **quiet)
            answered.then(self._refresh, key, panels, **quiet)
            decided.success(self._draw, key, drawn, trigger_mode="always_last", **quiet)
        for button, judge in ((self._up, self._praise), (self._down, self._blame), (self._grade, self._feed_back)):
            button.click(judge, key, panels, **quiet).then(self._draw, key, drawn, trigger_mode="always_last", **quiet)
        run = self._stream.click(self._run, [key, budget], panels, **quiet)
        run.then(self._draw, key, drawn, trigger_mode="always_last", **quiet)
        added = self._add.click(self._join, [key, self._model, self._like], [*panels, *pool], **quiet)
        removed = self._remove.click(self._leave, [key, self._leaving], [*panels, *pool], **quiet)
        for changed in (added, removed):
            changed.then(self._answer, key, answer, **quiet).then(self._refresh, key, panels, **quiet)
            changed.then(self._draw, key, drawn, trigger_mode="always_last", **quiet)

    def _begin(self) -> list[Any]:
        key = self._visits.new_key()
        visit = self._visits.of(key)
        return [key, *self._panels(visit), *self._pool(visit), *[self._gr.update(interactive=True)] * 6]

    def _take(self, label: str | None) -> str:
        sample = self._visits.stage.samples.named(label or "")
        return sample.text if sample else ""

    def _decide(self, key: str, query: str | None, budget: str) -> list[Any]:
        visit = self._visits.of(key)
        with self._tried(visit, "choice"):
            visit.ask(query or "", budget)
        return self._panels(visit)

    def _rebudget(self, key: str, budget: str) -> list[Any]:
        visit = self._visits.of(key)
        with self._tried(visit, "choice"):
            visit.rebudget(budget)
        return self._panels(visit)

    def _answer(self, key: str) -> Iterator[list[str]]:
        shown_s = -math.inf
        for answer in self._visits.of(key).answer():
            if answer.done or time.monotonic() - shown_s >= _EVERY_S:
                yield [inert(views.sentence(answer.source)), inert(views.answered(answer))]
                shown_s = time.monotonic()

    def _refresh(self, key: str) -> list[Any]:
        return self._panels(self._visits.of(key))

    def _praise(self, key: str) -> list[Any]:
        visit = self._visits.of(key)
        visit.judge(True)
        return self._panels(visit)

    def _blame(self, key: str) -> list[Any]:
        visit = self._visits.of(key)
        visit.judge(False)
        return self._panels(visit)

    def _feed_back(self, key: str) -> list[Any]:
        visit = self._visits.of(key)
        visit.grade()
        return self._panels(visit)

    def _run(self, key: str, budget: str) -> Iterator[list[Any]]:
        visit = self._visits.of(key)
        with self._tried(visit, "progress"):
            for _ in visit.run(_IN_A_ROW, budget):
                yield self._panels(visit)
        yield self._panels(visit)

    def _join(self, key: str, model: str | None, like: str | None) -> list[Any]:
        visit = self._visits.of(key)
        with self._tried(visit, "pool-message"):
            visit.add(model or "", like or "")
        return [*self._panels(visit), *self._pool(visit)]

    def _leave(self, key: str, name: str | None) -> list[Any]:
        visit = self._visits.of(key)
        with self._tried(visit, "pool-message"):
            visit.remove(name or "")
        return [*self._panels(visit), *self._pool(visit)]

    def _draw(self, key: str) -> str:
        return inert(drawings.curve(self._visits.of(key).curve()))

    @contextmanager
    def _tried(self, visit: Visit, panel: str) -> Iterator[None]:
        """Do what a visitor wants, or say in a panel why that can't be."""
        self._troubles.pop(visit, None)
        try:
            yield
        except MixLLMError as error:
            self._troubles[visit] = {panel: views.trouble(str(error))}

    # -- what is shown -----------------------------------------------------------------------------------------------

    def _panels(self, visit: Visit) -> list[Any]:
        screen = visit.screen()
        shown = views.panels(screen) | self._troubles.get(visit, {})
        judged = self._gr.update(interactive=screen.judges is not None)
        graded = self._gr.update(interactive=screen.graded)
        return [*(inert(shown[name]) for name in _PANELS), judged, judged, graded]

    def _pool(self, visit: Visit) -> Sequence[Any]:
        choices = self._gr.update(choices=list(visit.names), value=None)
        return [choices, choices]
