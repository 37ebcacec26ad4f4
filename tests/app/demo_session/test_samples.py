"""A visit to samples: what is decided and recorded, who is taught by a judgement, and that visitors are apart."""

from __future__ import annotations

import pytest

from mixllm_engine.app.demo.samples import draw
from mixllm_engine.app.demo.session import Visit
from mixllm_engine.app.demo.stage import Stage
from mixllm_engine.app.demo.visits import Visits
from mixllm_engine.config import BUDGET_WORDS
from mixllm_engine.errors import ConfigError
from tests.app.demo_stage import DEAR, OWN
from tests.evaluation import synthetic


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
