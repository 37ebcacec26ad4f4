"""`MixLLMDecisionModel`: our decision as one of LangChain's, for its own ``ModelRouterMiddleware``.

LangChain has decision models since langchain-core 1.8, where they are in beta. With an older one this module can be
imported, but the class is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from langchain_core import __version__ as core_version
from pydantic import Field, field_validator

from langchain_mixllm._references import CandidateName, Ref
from langchain_mixllm._runs import runs_around_here
from langchain_mixllm._sessions import session_from
from langchain_mixllm.runnables import Decider, messages_of
from mixllm_engine import ConfigError, Decision, FeedbackReceipt, UnknownCandidateError
from mixllm_engine.crediting import Credit
from mixllm_engine.decision.score import trade_weights
from mixllm_engine.decision.thompson import Totals


def chances(decision: Decision, names: Sequence[str], *, scale: float, is_squared: bool) -> dict[str, float]:
    """Return for some candidates how probable it is that they are the best, by `Totals.probabilities`.

    Parameters
    ----------
    decision : Decision
        Where the candidates stood; who was not eligible has no chance.
    names : sequence of str
        The candidates in question; one of them was chosen.
    scale : float
        Standard deviation of a quality estimate, in its widths.
    is_squared : bool
        Whether the decision's uncertainties are squares of widths.

    Examples
    --------
    >>> from mixllm_engine.testing import tiny_router
    >>> decision = tiny_router().decide("hello", budget="very_low")
    >>> chances(decision, ["cheap", "dear"], scale=0.1, is_squared=False)["cheap"] > 0.5
    True
    """
    scores = {name: decision.scores[name] for name in names}
    eligible = [name for name, score in scores.items() if score.eligible or name == decision.candidate]
    width = np.array([scores[name].uncertainty for name in eligible])
    on_quality, _ = trade_weights(decision.willingness_to_pay)
    totals = Totals(
        mean=np.array([scores[name].total for name in eligible]),
        deviation=scale * on_quality * (np.sqrt(width) if is_squared else width),
    )
    probabilities = totals.probabilities()
    probabilities /= probabilities.sum()  # they are integrals, exact to 1e-4
    found = dict(zip(eligible, probabilities.tolist(), strict=True))
    return {name: found.get(name, 0.0) for name in names}


if find_spec("langchain_core.decisions") is None:

    def __getattr__(name: str) -> Any:
        if name == "MixLLMDecisionModel":
            raise ImportError(
                f"MixLLMDecisionModel needs langchain-core 1.8 or newer, and this is {core_version}: "
                'pip install -U "langchain-core>=1.8" "langchain>=1.5"'
            )
        raise AttributeError(f"module {__spec__.name!r} has no attribute {name!r}")

else:
    _decisions = import_module("langchain_core.decisions")

    class MixLLMDecisionModel(_decisions.BaseDecisionModel, Decider):  # type: ignore[misc, name-defined]
        """Answers ``Choice`` questions between LLMs, without calling any, and learns from feedback.

        The labels of a question are names of candidates, or stand for some by `arms`. The answer's probabilities say
        how likely each is the best by what has been learned so far, and its confidence is that of the chosen one.
        Instructions and criteria are not read: who is good at what is learned.

        Parameters
        ----------
        router : Router
            Who decides and learns.
        arms : mapping of str to str, optional
            Label to the name of its candidate, where they differ.
        budget, willingness_to_pay, max_wait_s, allow, deny, force, session, query_extractor : optional
            As for `MixLLMRunnable`.

        Examples
        --------
        >>> from langchain_core.decisions import Choice
        >>> from mixllm_engine.testing import tiny_router
        >>> model = MixLLMDecisionModel(router=tiny_router(), arms={"fast": "cheap", "powerful": "dear"})
        >>> question = Choice(instructions="Who?", criteria={"fast": "Simple tasks.", "powerful": "Hard tasks."})
        >>> answer = model.invoke({"state": "Hello?", "questions": {"who": question}}).choices["who"]
        >>> answer.choice, round(sum(answer.probabilities.values()), 3)
        ('fast', 1.0)
        >>> model.feedback(answer, 1.0).candidate
        'cheap'
        """

        model: str = "mixllm"
        arms: Mapping[str, str] = Field(default_factory=dict)

        @field_validator("arms")
        @classmethod
        def _distinct(cls, arms: Mapping[str, str]) -> Mapping[str, str]:
            if len(set(arms.values())) < len(arms):
                raise ConfigError(f"two labels stand for one candidate in arms={dict(arms)!r}: give each its own")
            return arms

        @property
        def _provider(self) -> str:
            return "mixllm"

        def _classify(self, state: Any, questions: Mapping[str, Any]) -> Any:
            answers = {name: self._answer(state, name, question) for name, question in questions.items()}
            ids = [answer.choice.decision_id for answer in answers.values()]
            return _decisions.ClassifierResponse(
                model=self.model, answers=answers, request_id=ids[0] if len(ids) == 1 else None
            )

        def _answer(self, state: Any, name: str, question: Any) -> Any:
            if not isinstance(question, _decisions.Choice):
                raise ConfigError(f"{name!r} is a {question.type} question; MixLLMDecisionModel answers only choices")
            labels = self._labels(question.criteria)
            messages = messages_of(state)
            session, _ = session_from(messages, has_tools=False)
            others = [c.name for c in self.router.candidates if c.name not in labels]
            decision = self.choose(messages, {}, session, others)
            if decision.candidate not in labels:
                raise ConfigError(f"force names {decision.candidate!r}, which is none of {', '.join(labels)}")
            self.router.link(decision.decision_id, *runs_around_here())
            return self._choice(decision, labels)

        def _labels(self, criteria: Mapping[str, Any]) -> dict[str, str]:
            """Return the label of each candidate in question."""
            pool = [candidate.name for candidate in self.router.candidates]
            labels = {self.arms.get(label, label): label for label in criteria}
            if unknown := [label for name, label in labels.items() if name not in pool]:
                raise UnknownCandidateError(
                    f"{', '.join(map(repr, unknown))} among the choices is no candidate; the pool has "
                    f"{', '.join(map(repr, pool))}: say with arms={{label: candidate}} whom a label stands for"
                )
            return labels

        def _choice(self, decision: Decision, labels: Mapping[str, str]) -> Any:
            config = self.router.config
            found = chances(
                decision,
                list(labels),
                scale=config.exploration.thompson_scale,
                is_squared=config.decision.uncertainty == "square",
            )
            answer = _decisions.ChoiceAnswer(
                type="choice",
                choice=labels[decision.candidate],
                probabilities={labels[name]: chance for name, chance in found.items()},
                confidence=found[decision.candidate],
            )
            answer.choice = CandidateName.of(decision, answer.choice)  # a reference for feedback, while in memory
            return answer

        def feedback(
            self, ref: Any, score: float, key: str = "user", *, weight: float = 1.0, credit: Credit = "last"
        ) -> FeedbackReceipt:
            """Learn how good an answer was; see `MixLLMRunnable.feedback`.

            Parameters
            ----------
            ref : ChoiceAnswer, CandidateName, Decision, str or UUID
                The answer of this model, also as ``ModelRouterMiddleware`` leaves it in the agent's state under
                ``"model_route"``, the response's ``request_id``, or the id of the agent's run.
            score, key, weight, credit : optional
                As for `MixLLMRunnable.feedback`.
            """
            known: Ref = ref.choice if isinstance(ref, _decisions.ChoiceAnswer) else ref
            return super().feedback(known, score, key, weight=weight, credit=credit)
