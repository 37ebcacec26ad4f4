"""The statements that every decision and feedback needs: to build one takes several times as long as to execute it."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from mixllm_engine.store import schema

_decisions, _outcomes, _feedback = schema.decisions, schema.outcomes, schema.feedback
_of_decision: Final = sa.bindparam("decision_id", type_=sa.String)

ADD_DECISION: Final = sa.insert(_decisions)
ADD_OUTCOME: Final = sa.insert(_outcomes)
ADD_FEEDBACK: Final = sa.insert(_feedback)
ADD_LABEL_CHANGE: Final = sa.insert(schema.feedback_log)

CHOSEN: Final = sa.select(_decisions.c.candidate).where(_decisions.c.decision_id == _of_decision)
# Rows that refer to the locked one may be added meanwhile.
CHOSEN_AND_LOCKED: Final = CHOSEN.with_for_update(key_share=True)
OUTCOMES: Final = sa.select(_outcomes).where(_outcomes.c.decision_id == _of_decision).order_by(_outcomes.c.sequence)
LABELS: Final = sa.select(_feedback.c.key, _feedback.c.reward, _feedback.c.weight).where(
    _feedback.c.decision_id == _of_decision
)


def _after(log: sa.Table, *more: sa.Column[Any]) -> sa.Select[Any]:
    joined = sa.select(log, _decisions.c.embedding, _decisions.c.encoder, *more).join(
        _decisions, _decisions.c.decision_id == log.c.decision_id
    )
    behind = joined.where(log.c.sequence > sa.bindparam("position", type_=sa.BigInteger)).order_by(log.c.sequence)
    return behind.limit(sa.bindparam("limit", type_=sa.Integer))


FEEDBACK_AFTER: Final = _after(schema.feedback_log, _decisions.c.ranking)
OUTCOMES_AFTER: Final = _after(_outcomes)
