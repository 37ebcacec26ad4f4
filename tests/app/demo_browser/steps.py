"""What a visitor of the demo does, step by step, and what the page shows then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Locator, Page, expect

from mixllm_engine.testing import Reply, ScriptedServer
from tests.app.demo_browser.browser import numbers

# In the order in which the page is read.
CONTROLS = ("sample", "query", "budget", "ask", "up", "down", "grade", "stream", "add-model", "add-like", "add",
            "remove-name", "remove")  # fmt: skip
PANELS = ("source", "answer", "judges", "receipt", "choice", "candidates", "why", "counterfactual", "excluded",
          "learned", "alerts", "progress", "curve", "savings", "spending", "shares", "pool-message")  # fmt: skip
RECORDED = ("google/gemini-2.5-pro", "meta-llama/llama-3.1-8b-instruct", "mistralai/mistral-large-2512")
NEWCOMER, SECOND = "openai/gpt-4o-mini", "openai/gpt-4o"
TOKEN = "a-token-of-this-test"
KEY = "sk-a-secret-of-this-test"


def answers(scripted: ScriptedServer, name: str, text: str, word_delay_s: float = 0.0) -> None:
    """Let an LLM give this answer, word by word."""
    scripted.script(name.removeprefix("openai/"), Reply(text=text, token_delay_s=word_delay_s))


# Steps of a visitor


@contextmanager
def renewed(page: Page, panel: str) -> Iterator[None]:
    """Wait at the end of the block until a panel shows something new."""
    page.evaluate("id => document.querySelectorAll(`#${id} *`).forEach(old => old.dataset.old = '')", panel)
    shown = page.locator(f"#{panel} :is(table, p, figure)")
    before = shown.count()
    yield
    if before:
        expect(page.locator(f"#{panel} :is(table, p, figure):not([data-old])").first).to_be_visible()
    else:
        expect(shown.first).to_be_visible()


def box(page: Page) -> Locator:
    return page.locator("#query textarea")


def pick(page: Page, place: int) -> str:
    """Choose a sample query by its place in the list; return its text."""
    before = box(page).input_value()
    page.locator("#sample input").click()
    page.get_by_role("option").nth(place).click()
    expect(box(page)).not_to_have_value(before)
    return box(page).input_value()


def ask(page: Page) -> str:
    """Press the button; return who was chosen."""
    with renewed(page, "candidates"):
        page.locator("#ask").click()
    return chosen(page)


def ask_sample(page: Page, place: int = 0) -> str:
    """Choose a sample, ask it, and wait for the recorded outcome; return who was chosen."""
    pick(page, place)
    name = ask(page)
    expect(page.locator("#source")).to_contain_text(f"Recorded outcome of {name}")
    expect(page.locator("#up")).to_be_enabled()
    return name


def choose(page: Page, name: str, value: str) -> None:
    """Type into a list that can be searched, and take what it finds, or what was typed where it finds nothing."""
    field = page.locator(f"#{name} input")
    field.click()
    field.fill(value)
    option = page.get_by_role("option", name=value, exact=True)
    if option.count():
        option.click()
    else:
        field.press("Enter")
    expect(page.get_by_role("option")).to_have_count(0)  # the list is closed
    expect(field).to_have_value(value)


def join(page: Page, name: str, like: str = "mistralai/mistral-large-2512") -> None:
    """Add an LLM, expected to be like the one that is usually chosen, or like another."""
    choose(page, "add-model", name)
    choose(page, "add-like", like)
    page.locator("#add").click()
    expect(page.locator("#pool-message")).to_contain_text(f"{name} has joined")


def set_budget(page: Page, budget: str) -> str:
    """Choose another budget for the present query; return who is chosen now."""
    with renewed(page, "candidates"):
        page.locator("#budget").get_by_label(budget, exact=True).check()
    expect(page.locator("#choice")).to_contain_text(f"at a {budget.lower()} budget")
    return chosen(page)


def judge(page: Page, thumb: str) -> str:
    """Press a thumb, or the button for the recorded quality; return the receipt."""
    with renewed(page, "receipt"):
        page.locator(f"#{thumb}").click()
    return page.locator("#receipt").inner_text()


def run(page: Page) -> None:
    """Run the samples in a row."""
    page.locator("#stream").click()
    expect(page.locator("#progress")).to_contain_text("20 of 20 samples")


def fill(page: Page) -> None:
    """Use everything once, so that every panel has something to show."""
    join(page, NEWCOMER, like="meta-llama/llama-3.1-8b-instruct")
    for place in range(6):  # the newcomer has no recorded outcomes; it may be drawn to learn about it
        pick(page, place)
        if ask(page) in RECORDED:
            break
    expect(page.locator("#grade")).to_be_enabled()
    judge(page, "up")
    run(page)
    expect(page.locator("#spending svg:visible")).to_have_count(1)
    expect(page.locator("#curve svg:visible")).to_contain_text("you are here")


# What a page shows


def chosen(page: Page) -> str:
    row = page.locator('#candidates tr[aria-current="true"]')
    expect(row).to_have_count(1)
    return row.get_attribute("data-candidate") or ""


def names(page: Page, panel: str) -> list[str]:
    rows = page.locator(f"#{panel} tr[data-candidate]").all()
    return [row.get_attribute("data-candidate") or "" for row in rows]


def cell(page: Page, panel: str, name: str, head: str) -> float:
    """Return the first number of a cell."""
    return numbers(page.locator(f'#{panel} tr[data-candidate="{name}"] td[data-label^="{head}"]').inner_text())[0]


def labels(page: Page, name: str) -> float:
    return cell(page, "learned", name, "Labels")


def mean(page: Page, name: str) -> float:
    return cell(page, "learned", name, "Learned mean quality")
