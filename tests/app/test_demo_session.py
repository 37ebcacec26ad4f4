"""A visit: asking, judging, running samples, changing the pool, and who is taught by what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from mixllm_engine.app.demo.curve import cost_unit_usd, measure
from mixllm_engine.app.demo.pool import RECORDED, offered, recorded_candidates
from mixllm_engine.app.demo.samples import draw
from mixllm_engine.app.demo.screen import LearnedRow
from mixllm_engine.app.demo.session import LONGEST_QUERY, MOST_CANDIDATES, Visit
from mixllm_engine.app.demo.stage import RowsEncoder, Stage
from mixllm_engine.app.demo.standin import NAME, StandIn
from mixllm_engine.app.demo.visits import Visits
from mixllm_engine.config import BUDGET_WORDS
from mixllm_engine.errors import CandidateError, ConfigError, QueryError, UnknownCandidateError
from mixllm_engine.testing import Cut, Failure, HashingEncoder, Reply, ScriptedServer
from tests.app.demo_stage import DEAR, OWN, candidates, make_stage
from tests.evaluation import synthetic


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENROUTER_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    made = make_stage()
    yield made
    made.close()


@pytest.fixture
def visit(stage: Stage) -> Iterator[Visit]:
    made = Visit(stage, seed=0)
    yield made
    made.close()


def known(visit: Visit, name: str) -> LearnedRow:
    return next(row for row in visit.screen().learned if row.name == name)


def test_samples_are_drawn_by_the_seed_and_are_apart(stage: Stage) -> None:
    rows = synthetic.pool(120, seed=1)
    samples, again = draw(rows, 3), draw(rows, 3)
    assert samples == again != draw(rows, 4)
    assert {sample.label.partition(":")[0] for sample in samples.offered} == set(synthetic.DOMAINS)
    assert {one.text for one in samples.offered}.isdisjoint(one.text for one in samples.streamed)
    assert {one.text for one in stage.samples.streamed}.isdisjoint(stage.held_out.texts)
    one = samples.offered[0]
    row = rows.texts.index(one.text)
    assert one.outcomes[DEAR].quality == rows.quality[row, rows.column(DEAR)]
    assert samples.named(one.label) is samples.asking(f" {one.text}\n") is one
    assert samples.named("nothing") is None and samples.asking(OWN) is None


def test_a_sample_is_decided_and_shown_beside_what_was_recorded(visit: Visit) -> None:
    assert visit.screen().choice is None and visit.screen().savings is None
    sample = visit.stage.samples.offered[0]
    visit.ask(sample.text, "Medium")
    screen = visit.screen()
    assert screen.choice is not None and screen.choice.sample and screen.graded
    assert {row.name: row.recorded for row in screen.choice.rows} == dict(sample.outcomes)
    chosen = [row for row in screen.choice.rows if row.chosen]
    assert [row.name for row in chosen] == [screen.choice.candidate] == [screen.judges]
    for row in screen.choice.rows:
        assert sum(row.parts.values()) == pytest.approx(row.score)
        assert row.waiting_s > 0.5
    (answer,) = visit.answer()
    assert answer.done and answer.recorded == sample.outcomes[screen.choice.candidate]
    assert "hold no text" in answer.source and screen.choice.candidate in answer.source


def test_another_budget_decides_anew_and_the_query_counts_once(visit: Visit) -> None:
    assert not visit.rebudget("Low")
    visit.ask(visit.stage.samples.offered[-1].text, "Very High")
    chosen = set()
    for word in BUDGET_WORDS:
        assert visit.rebudget(word)
        choice = visit.screen().choice
        assert choice is not None and choice.budget == word
        chosen.add(choice.candidate)
    assert len(chosen) > 1
    assert sum(count for _, count in visit.screen().shares) == 1
    with pytest.raises(ConfigError, match="unknown budget 'huge'"):
        visit.rebudget("huge")


@pytest.mark.parametrize("good", [True, False])
def test_a_thumb_teaches_the_chosen_llm_and_nobody_else(visit: Visit, good: bool) -> None:
    visit.ask(visit.stage.samples.offered[0].text, "Medium")
    name = visit.screen().judges
    assert name is not None
    before = {row.name: row for row in visit.screen().learned}
    visit.judge(good)
    after = {row.name: row for row in visit.screen().learned}
    assert visit.screen().receipt.startswith("applied: thumbs " + ("up" if good else "down"))
    moved, expected = after[name].moved, after[name].expected
    assert (moved > 0) is good and moved != 0.0 and after[name].labels > before[name].labels
    expected_before = before[name].expected
    assert expected is not None and expected_before is not None
    assert (expected > expected_before) is good
    assert all(after[other] == before[other] for other in after if other != name)


def test_a_second_thumb_replaces_the_first(visit: Visit) -> None:
    visit.ask(visit.stage.samples.offered[0].text, "Medium")
    visit.judge(True)
    labels = visit.screen().learned
    visit.judge(True)
    assert visit.screen().receipt.startswith("duplicate") and visit.screen().learned == labels
    visit.judge(False)
    assert visit.screen().receipt.startswith("replaced")
    assert visit.router.stats()["feedback_applied"] == 1


def test_the_recorded_quality_is_fed_back(visit: Visit) -> None:
    visit.grade()
    assert "No quality is recorded" in visit.screen().receipt
    sample = visit.stage.samples.offered[0]
    visit.ask(sample.text, "Medium")
    name = visit.screen().judges
    assert name is not None
    visit.grade()
    assert f"the recorded quality {sample.outcomes[name].quality:.2f} for {name}" in visit.screen().receipt


def test_samples_in_a_row_move_shares_savings_and_what_is_known(visit: Visit) -> None:
    before = {row.name: row.labels for row in visit.screen().learned}
    assert len(list(visit.run(20, "Low"))) == 5
    screen = visit.screen()
    shares, savings = dict(screen.shares), screen.savings
    assert sum(shares.values()) == 20 and screen.progress.startswith("20 of 20")
    assert savings is not None and savings.queries == savings.recorded == 20
    streamed = visit.stage.samples.streamed[:20]
    assert savings.dearest_usd[-1] == pytest.approx(sum(one.outcomes[DEAR].cost_usd for one in streamed))
    assert savings.dearest_quality == pytest.approx(sum(one.outcomes[DEAR].quality for one in streamed) / 20)
    assert all(later >= sooner for sooner, later in zip(savings.spent_usd, savings.spent_usd[1:], strict=False))
    assert screen.dearest == DEAR
    learned = {row.name: row.labels - before[row.name] for row in screen.learned}
    assert {name for name, more in learned.items() if more} == {name for name, count in shares.items() if count}


def test_alerts_are_those_of_the_router(visit: Visit) -> None:
    assert visit.screen().alerts == ()
    for _ in range(120):
        visit.ask(visit.stage.samples.offered[0].text, "Very High")
        visit.judge(False)
        if visit.screen().alerts:
            break
    (alert, *_) = visit.screen().alerts
    assert alert.shift < 0 and alert.labels > 0


def test_visitors_teach_only_themselves(stage: Stage) -> None:
    visits = Visits(stage, most=2)
    first, second = visits.of("a"), visits.of("b")
    assert visits.of("a") is first
    list(first.run(4, "Medium"))
    first.remove("poor")
    assert second.router.stats()["decisions"] == 0 and "poor" in second.names
    third = visits.of("c")  # "b" was quiet for longest
    assert visits.of("a") is first and visits.of("c") is third
    assert visits.of("b") is not second
    visits.close()
    assert len(visits.new_key()) == 32 and visits.new_key() != visits.new_key()


# -- answers ---------------------------------------------------------------------------------------------------------


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


# -- the pool, and what is refused -----------------------------------------------------------------------------------


def test_an_llm_joins_and_leaves(visit: Visit) -> None:
    visit.ask(visit.stage.samples.offered[0].text, "Medium")
    visit.add("openai/gpt-4o-mini", like="cheap")
    screen = visit.screen()
    assert "openai/gpt-4o-mini" in visit.names and "like cheap" in screen.message
    assert screen.choice is not None and len(screen.choice.rows) == 5
    new = next(row for row in screen.choice.rows if row.name == "openai/gpt-4o-mini")
    assert new.recorded is None
    assert known(visit, new.name).mean is None and known(visit, new.name).labels == 0
    list(visit.run(8, "Medium"))  # those of whom nothing is recorded take no part
    assert dict(visit.screen().shares).get(new.name, 0) <= 1
    visit.remove("openai/gpt-4o-mini")
    assert "openai/gpt-4o-mini" not in visit.names and "has left" in visit.screen().message


def test_what_the_pool_refuses(visit: Visit) -> None:
    with pytest.raises(CandidateError, match="knows no price of 'nobody/knows'"):
        visit.add("nobody/knows", like="")
    with pytest.raises(CandidateError, match="in the pool already"):
        visit.add("openai/gpt-4o-mini", like="")
        visit.add("openai/gpt-4o-mini", like="")
    with pytest.raises(UnknownCandidateError, match="unknown candidate 'nobody'"):
        visit.remove("nobody")
    for name in visit.names[1:]:
        visit.remove(name)
    with pytest.raises(CandidateError, match="at least one candidate"):
        visit.remove(visit.names[0])


def test_the_pool_is_bounded(visit: Visit) -> None:
    models = ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "o3-mini"]
    for model in models:
        visit.add(f"openai/{model}", like="")
    assert len(visit.names) == MOST_CANDIDATES
    with pytest.raises(CandidateError, match="remove one first"):
        visit.add("openai/gpt-4-turbo", like="")


@pytest.mark.parametrize("text", ["", "  \n", "x" * (LONGEST_QUERY + 1)])
def test_queries_that_are_refused_leave_all_as_it_was(visit: Visit, text: str) -> None:
    with pytest.raises(QueryError, match="empty|at most"):
        visit.ask(text, "Medium")
    assert visit.screen().choice is None


# -- the curve, and what a visit begins with -------------------------------------------------------------------------


def test_the_curve_reaches_from_the_cheapest_to_the_best(visit: Visit) -> None:
    curve = visit.curve()
    assert curve is not None and curve.present is None and curve.rows == len(visit.stage.held_out)
    singles = dict(curve.singles)
    held_out = visit.stage.held_out
    assert singles[DEAR].cost_usd == pytest.approx(held_out.cost_usd[:, held_out.column(DEAR)].mean())
    assert curve.routed[0].cost_usd == pytest.approx(min(point.cost_usd for point in singles.values()))
    assert max(point.quality for point in curve.routed) > singles["cheap"].quality
    visit.ask(OWN, "Very Low")
    low = visit.curve()
    visit.rebudget("Very High")
    high = visit.curve()
    assert low is not None and high is not None and low.present is not None and high.present is not None
    assert low.present.cost_usd <= high.present.cost_usd and low.present.quality < high.present.quality


def test_the_unit_of_cost_is_that_of_the_scores(visit: Visit) -> None:
    for budget in BUDGET_WORDS:
        decision = visit.router.decide(OWN, budget=budget)
        unit = cost_unit_usd(decision)
        assert unit is not None
        for score in decision.scores.values():
            willing = decision.willingness_to_pay
            assert score.trade == pytest.approx((willing * score.quality - score.cost_usd / unit) / (willing + 1.0))


def test_a_curve_needs_two_llms_with_outcomes(visit: Visit) -> None:
    for name in visit.names[1:]:
        visit.remove(name)
    assert measure(visit.router, visit.stage.held_out, None) is None


def test_the_rows_are_encoded_once_and_as_they_would_be_anew() -> None:
    calls: list[int] = []

    class Counting(HashingEncoder):
        def encode(self, texts):  # type: ignore[no-untyped-def]
            calls.append(len(texts))
            return super().encode(texts)

    encoder = RowsEncoder(Counting(32), ["a b", "c"])
    assert (encoder.encode(["new", "c", "a b"]) == HashingEncoder(32).encode(["new", "c", "a b"])).all()
    assert (encoder.encode(["new"]) == HashingEncoder(32).encode(["new"])).all()
    assert calls == [2, 1] and encoder.count_tokens("a b") == encoder.count_tokens("d e") == 2
    encoder.encode([f"text {number}" for number in range(100)])
    encoder.encode(["new"])
    assert len(calls) == 2 + 100 + 1  # only the latest are remembered
    assert encoder.encode([]).shape == (0, 32) and encoder.fingerprint == "hashing-32"


def test_the_recorded_llms_have_prices_and_the_offered_ones_too() -> None:
    assert [one.name for one in recorded_candidates()] == [name for name, *_ in RECORDED]
    assert "openai/gpt-4o-mini" in offered()


def test_the_dearest_is_who_is_expected_to_cost_most(visit: Visit) -> None:
    before = visit.screen().dearest
    costs = visit.router.predict(visit.stage.held_out.texts)
    assert costs.cost_usd.mean(axis=0).max() == costs.cost_usd.mean(axis=0)[costs.candidates.index(before)]
    visit.remove(before)
    assert visit.screen().dearest not in (before, "")


def test_whoever_has_no_key_yet_is_alone(stage: Stage) -> None:
    visits = Visits(stage)
    try:
        assert visits.of("") is not visits.of("")
    finally:
        visits.close()
