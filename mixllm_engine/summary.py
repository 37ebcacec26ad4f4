"""What `Router.stats` says: how much was decided, observed and learned, and by whom."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Any

from mixllm_engine.decision.maker import DecisionMaker
from mixllm_engine.learning.learner import Learner
from mixllm_engine.store.base import Store


def summary(store: Store, learner: Learner, maker: DecisionMaker, lock: threading.RLock) -> dict[str, Any]:
    """Count the log and what was learned from it; numbers that stand still show learning that has stopped.

    `lock` guards what was learned; the log is read without it, so that a slow database holds up no decision.
    """
    counts, chosen, applied = store.counts(), store.choices(), store.feedback_of(learner.encoder)
    with lock:
        alerts, labels = learner.alerts(), dict(zip(learner.pool.names, learner.labels(), strict=True))
        weights = dict(zip(learner.pool.names, learner.label_weights(), strict=True))
        draws, load = dict(maker.draws), {name: maker.load.in_flight(name) for name in labels}
    return {
        "decisions": counts.decisions,
        "outcomes": counts.outcomes,
        "feedback_applied": applied,
        "feedback_duplicate": counts.feedback_duplicate,
        "feedback_unmatched": counts.feedback_unmatched,
        "feedback_pending": counts.feedback - applied,
        "writes_waiting": store.unwritten,
        "writes_lost": store.lost,
        "alerts": alerts,
        "rollout": None if maker.gate is None else asdict(maker.gate.status),
        "candidates": {
            name: {
                "decisions": chosen.get(name, 0),
                "labels": count,
                "weight": weights[name],
                "mean_reward": mean,
                "exploring_draws": draws.get(name, 0),
                "in_flight": load[name],
            }
            for name, (count, mean) in labels.items()
        },
    }
