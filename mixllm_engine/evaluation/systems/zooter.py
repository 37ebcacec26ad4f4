"""Zooter: a classifier that has learned who would get the greatest reward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from mixllm_engine.evaluation.contest.policy import Planned
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.rivals.base import need_scikit_learn
from mixllm_engine.evaluation.rivals.domain import DomainLabel
from mixllm_engine.types import Matrix

# What a query's own reward counts against its domain's mean.
_OWN_SHARE: Final = 0.3
_ROUNDS: Final = 1000


class Zooter:
    """Distil rewards: softmax over the candidates' rewards is the target of a classifier, the loss is KL divergence.

    Rewards are noisy, and so they are blended with their mean over the query's tag; here the tags are the table's
    domains, and without domains rewards stay as they are (the paper's ablation).

    Simplified: the reward is the recorded quality instead of a reward model's grade; the classifier is linear on the
    features that all systems share instead of a fine-tuned mDeBERTa.

    As published it takes the most probable candidate and knows no cost: that is the policy at lambda = infinity. Those
    before it are an addition: log-probabilities are expected rewards up to a term that is the same for all candidates,
    so lambda log p - c trades them off against the cost.

    References
    ----------
    Lu et al. (2023), "Routing to the Expert: Efficient Reward-guided Ensemble of Large Language Models",
    arXiv 2311.08692.
    """

    def __init__(self) -> None:
        need_scikit_learn()

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield a policy for each lambda; the last one is the published one."""
        worth = _distilled(task.known, _enhanced(task.train), task.asked)
        for willingness in task.grid:
            yield Planned(task.best_by(worth, float(willingness)))


def _enhanced(train: FullFeedback) -> Matrix:
    """Blend every reward with its domain's mean, shape (n, K)."""
    if train.domains is None:
        return train.quality
    tagged = DomainLabel()
    tagged.fit(np.empty((len(train), 0)), train.quality, train.domains)
    blended: Matrix = _OWN_SHARE * train.quality + (1.0 - _OWN_SHARE) * tagged.predict(
        np.empty((len(train), 0)), train.domains
    )
    return blended


def _distilled(known: Matrix, reward: Matrix, asked: Matrix) -> Matrix:
    """Return log-probabilities of the candidates, shape (m, K)."""
    from sklearn.linear_model import LogisticRegression

    target = np.exp(reward - reward.max(axis=1, keepdims=True))
    target /= target.sum(axis=1, keepdims=True)
    # KL to a target is, up to a constant, the log-loss in which every query has every label, weighted by the target.
    count = reward.shape[1]
    classifier = LogisticRegression(max_iter=_ROUNDS)
    classifier.fit(np.repeat(known, count, axis=0), np.tile(np.arange(count), len(known)), sample_weight=target.ravel())
    logs: Matrix = np.asarray(classifier.predict_log_proba(asked), dtype=np.float64)
    return logs
