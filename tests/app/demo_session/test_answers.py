"""Own queries of a visit: who answers, who is judged for it, and what is said if nobody can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from mixllm_engine.app.demo.session import Visit
from mixllm_engine.app.demo.stage import Stage
from mixllm_engine.app.demo.standin import NAME, StandIn
from mixllm_engine.testing import Cut, Failure, Reply, ScriptedServer
from tests.app.demo_stage import OWN, candidates, known, make_stage
from tests.evaluation import synthetic

Opened = Callable[[Stage], Visit]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as made:
        yield made


@pytest.fixture
def opened() -> Iterator[Opened]:
    with ExitStack() as stack:

        def open_visit(stage: Stage) -> Visit:
            return stack.enter_context(closing(Visit(stack.enter_context(closing(stage)), seed=0)))

        yield open_visit


def standing_in(server: ScriptedServer) -> Stage:
    stand_in = StandIn()
    stand_in.at(server.base_url)
    return make_stage(stand_in=stand_in)


def test_an_own_query_is_answered_by_the_stand_in_which_alone_is_judged(server: ScriptedServer, opened: Opened) -> None:
    server.script("smollm2", Reply(text="Paris, I think."))
    visit = opened(standing_in(server))
    visit.ask(OWN, "Medium")
    assert visit.screen().judges is None and not visit.screen().graded
    visit.judge(True)
    assert visit.screen().receipt == "There is no answer to judge yet."
    answers = list(visit.answer())
    assert answers[-1].done and answers[-1].text == "Paris, I think."
    assert len(answers) > 2 and all(NAME in answer.source for answer in answers)
    assert visit.screen().judges == NAME
    pool = {name: known(visit, name) for name in visit.names}
    visit.judge(False)
    assert visit.screen().receipt.startswith(f"applied: thumbs down for {NAME}, and of nobody else")
    assert known(visit, NAME).labels == 1 and known(visit, NAME).mean == 0.0
    assert {name: known(visit, name) for name in visit.names} == pool
    visit.grade()
    assert "No quality is recorded" in visit.screen().receipt


def test_without_a_stand_in_the_page_says_how_to_get_one(visit: Visit) -> None:
    visit.ask(OWN, "Low")
    (answer,) = visit.answer()
    assert answer.done and answer.text == visit.stage.stand_in.missing != ""
    assert visit.screen().judges is None


def test_who_has_a_key_answers_and_is_judged(server: ScriptedServer, opened: Opened) -> None:
    for name in synthetic.NAMES:
        server.script(name, Reply(text=f"I am {name}."))
    visit = opened(make_stage(candidates(server.base_url)))
    visit.ask(OWN, "Medium")
    choice = visit.screen().choice
    assert choice is not None
    *_, last = visit.answer()
    assert last.text == f"I am {choice.candidate}." and "whose key is set" in last.source
    assert visit.screen().judges == choice.candidate
    sample = visit.stage.samples.offered[0]
    visit.ask(sample.text, "Medium")  # its LLM can answer itself
    *_, last = visit.answer()
    choice = visit.screen().choice
    assert choice is not None and last.text == f"I am {choice.candidate}." and last.recorded is None
    visit.grade()
    assert choice.candidate in visit.screen().receipt


def test_if_the_chosen_one_has_no_key_the_best_of_the_others_answers_and_is_judged(
    server: ScriptedServer, opened: Opened
) -> None:
    server.script("poor", Reply(text="I am poor."))
    pool = [one if one.name != "poor" else candidates(server.base_url)[-1] for one in candidates()]
    visit = opened(make_stage(pool))
    visit.ask(OWN, "Very High")
    choice = visit.screen().choice
    assert choice is not None and choice.candidate != "poor"
    *_, last = visit.answer()
    assert last.text == "I am poor." and f"{choice.candidate} was chosen, but its key is not set" in last.source
    visit.judge(True)
    assert "for poor" in visit.screen().receipt
    assert known(visit, "poor").moved > 0 and known(visit, choice.candidate).moved == 0.0


def test_a_fallback_is_told_and_taught(server: ScriptedServer, opened: Opened) -> None:
    for name in synthetic.NAMES:
        server.script(name, Reply(text=f"I am {name}."))
    visit = opened(make_stage(candidates(server.base_url)))
    visit.ask(OWN, "Medium")
    choice = visit.screen().choice
    assert choice is not None
    server.script(choice.candidate, Failure(status=500))
    *_, last = visit.answer()
    other = visit.screen().judges
    assert other not in (None, choice.candidate)
    assert last.source == f"{choice.candidate} failed. Answered by {other} instead."
    visit.judge(True)
    assert f"for {other}" in visit.screen().receipt


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [(Failure(status=401), "Nobody answered"), (Cut(text="one two three", after_tokens=2), "the stream broke")],
)
def test_failures_are_sentences(server: ScriptedServer, opened: Opened, behaviour: Failure | Cut, said: str) -> None:
    server.script("smollm2", behaviour)
    visit = opened(standing_in(server))
    visit.ask(OWN, "Medium")
    *_, last = visit.answer()
    assert last.done and said in f"{last.source} {last.text}"


def test_an_answer_stops_when_something_else_is_asked(server: ScriptedServer, opened: Opened) -> None:
    server.script("smollm2", Reply(text="one two three four five six seven"))
    visit = opened(standing_in(server))
    visit.ask(OWN, "Medium")
    answers = visit.answer()
    next(answers)
    visit.ask(visit.stage.samples.offered[0].text, "Medium")
    judged = visit.screen().judges
    (recorded,) = visit.answer()
    assert list(answers) == [recorded] and visit.screen().judges == judged != NAME


def test_a_changed_pool_keeps_the_answer_of_who_is_still_chosen(server: ScriptedServer, opened: Opened) -> None:
    server.script("smollm2", Reply(text="Paris."))
    visit = opened(standing_in(server))
    visit.ask(OWN, "Very High")
    *_, last = visit.answer()
    assert list(visit.answer()) == [last]  # nobody is called twice
    visit.remove("poor")
    assert list(visit.answer()) == [last] and visit.screen().judges == NAME
    choice = visit.screen().choice
    assert choice is not None
    visit.remove(choice.candidate)
    assert visit.screen().judges is None
    assert len(list(visit.answer())) > 1
