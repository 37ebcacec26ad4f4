"""The pool of a visit: who joins and leaves, and what is refused."""

from __future__ import annotations

import pytest

from mixllm_engine.app.demo.session import LONGEST_QUERY, MOST_CANDIDATES, Visit
from mixllm_engine.errors import CandidateError, QueryError, UnknownCandidateError
from tests.app.demo_stage import known


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
