"""Queries, and the options of a decision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from mixllm_engine import Query, Router
from mixllm_engine.config import RouterConfig
from mixllm_engine.testing import tiny_router
from tests.engine.fuzz.drawing import NUMBERS, WORDS, mostly
from tests.engine.fuzz.routers import FULL, NONE, SMALL, Property, only_ours, taught


def query_targets(_: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    routers = [
        taught(SMALL),
        taught(FULL),
        tiny_router(config=RouterConfig.paper().model_copy(update={"features": NONE})),
    ]
    unit = np.eye(64)[0]
    fields = {
        "text": mostly(WORDS),
        "embedding": mostly(st.sampled_from([None, unit, unit.tolist(), unit * 1e300, unit * 0, unit[:5]])),
        "needs": mostly(st.lists(st.sampled_from(["tools", "json_schema", "images"]), max_size=2)),
        "prompt_tokens": mostly(NUMBERS),
        "max_output_tokens": mostly(NUMBERS),
        "in_tool_loop": mostly(st.booleans()),
    }
    names = st.sampled_from(["cheap", "dear", "*", "nobody", "c[", "gpt*"]) | WORDS
    options = {
        "budget": mostly(st.sampled_from(["low", "medium", "lots"]) | NUMBERS),
        "willingness_to_pay": mostly(NUMBERS),
        "max_wait_s": mostly(NUMBERS),
        "allow": mostly(st.lists(names, max_size=2)),
        "deny": mostly(st.lists(names, max_size=2)),
        "force": mostly(names),
        "session": mostly(WORDS),
    }

    def decided(drawn: tuple[Router, Any, dict[str, Any]]) -> None:
        router, query, chosen = drawn
        decision = None
        with only_ours():
            decision = router.decide(Query(**query) if isinstance(query, dict) else query, **chosen)
        if decision is not None:
            assert decision.candidate in decision.ranking and 0.0 <= decision.propensity <= 1.0
            assert np.isfinite([score.quality for score in decision.scores.values()]).all()

    query = st.fixed_dictionaries({}, optional=fields) | mostly(WORDS).filter(lambda one: not isinstance(one, dict))
    drawn = st.tuples(st.sampled_from(routers), query, st.fixed_dictionaries({}, optional=options))
    return {"queries and options": (drawn, decided)}
