"""Feedback, outcomes and links, about decisions that there are and others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from mixllm_engine import Outcome, Router
from tests.engine.fuzz.drawing import ANYTHING, NUMBERS, WORDS, mostly
from tests.engine.fuzz.routers import SMALL, Property, only_ours, taught, use


def feedback_targets(folder: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    routers = [taught(SMALL, store=where) for where in (None, folder / "feedback.db")]
    known = [router.decide("question").decision_id for router in routers]
    refs = st.sampled_from([*known, *(f"mixllm-{one}" for one in known), "run", "0" * 32, known[0].upper()]) | WORDS
    call = st.fixed_dictionaries(
        {
            "router": st.sampled_from(routers),
            "ref": mostly(refs | st.lists(refs, max_size=3)) | st.lists(ANYTHING, max_size=3),
            "reward": mostly(st.floats(0, 1)),
            "key": mostly(WORDS | st.text(min_size=1, max_size=200)),
            "weight": mostly(st.floats(0, 1)),
            "credit": mostly(st.sampled_from(["last", "all", "discounted"])),
        }
    )
    outcome = st.fixed_dictionaries(
        {"candidate": mostly(st.sampled_from(["cheap", "dear", "gpt-4o-mini", "gone"]))},
        optional={
            **dict.fromkeys(("latency_s", "first_token_s", "cost_usd"), mostly(st.floats())),
            **dict.fromkeys(("prompt_tokens", "response_tokens", "cached_tokens"), mostly(NUMBERS)),
            "error": mostly(st.sampled_from(["timeout", "other"])),
        },
    )

    def judged(call: dict[str, Any]) -> None:
        router = call.pop("router")
        with only_ours():
            router.feedback(**call)
        assert np.isfinite([row["labels"] for row in router.stats()["candidates"].values()]).all()

    def observed(call: tuple[Router, Any, dict[str, Any]]) -> None:
        router, ref, fields = call
        try:
            outcome = Outcome(**fields)
        except (TypeError, ValueError):  # of the values themselves
            return
        with only_ours():
            router.observe(ref, outcome)
        use(router)

    def linked(call: tuple[Router, Any, list[Any]]) -> None:
        router, ref, names = call
        with only_ours():
            router.link(ref, *names)

    one = st.sampled_from(routers)
    return {
        "feedback": (call, judged),
        "outcomes": (st.tuples(one, mostly(refs), outcome), observed),
        "links": (st.tuples(one, mostly(refs), st.lists(mostly(WORDS), max_size=3)), linked),
    }
