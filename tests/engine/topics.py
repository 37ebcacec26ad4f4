"""Two topics to teach a router, and one that never explores."""

from __future__ import annotations

from typing import Any

from mixllm_engine import Router, RouterConfig

TOPICS = {"poem": "write a poem about the sea and the wind", "sum": "add these numbers and give the total"}
QUIET = RouterConfig.model_validate({"exploration": {"rate": 0.0, "pulls": 0}})


def teach(router: Router, rounds: int, good: dict[str, str], **terms: Any) -> list[tuple[str, str]]:
    """Ask about two topics in turn; reward 1 for the candidate that is good at the topic, else 0."""
    made = []
    for step in range(rounds):
        topic = list(TOPICS)[step % 2]
        decision = router.decide(f"{TOPICS[topic]} {step}", **terms)
        router.feedback(decision, float(decision.candidate == good[topic]))
        made.append((topic, decision.candidate))
    return made
