"""Entries -> rows, many in one transaction: what a commit costs is shared by all that wait for it.

The number of statements does not depend on the number of entries. All workers lock in the same order (rows of decisions
by their id, links by their name, then the logs), so that none waits for another in a circle.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import sqlalchemy as sa

from mixllm_engine.decision.score import ScoreTable
from mixllm_engine.errors import UnknownDecisionError
from mixllm_engine.store import schema
from mixllm_engine.store.base import Judged, unknown_decision
from mixllm_engine.store.engines import compact_json
from mixllm_engine.store.entries import Entry, NewDecision, NewFeedback, NewLinks, NewOutcome, Result
from mixllm_engine.store.statements import Statements, statements_for
from mixllm_engine.store.transactions import wait_to_append
from mixllm_engine.types import FeedbackReceipt, Label, Outcome, Score

_OUTCOME_FIELDS: Final = tuple(Outcome.__dataclass_fields__)
# `asdict` would copy what can't change.
_OUTCOME_VALUES: Final[Callable[[Outcome], tuple[Any, ...]]] = operator.attrgetter(*_OUTCOME_FIELDS)


def append(connection: sa.Connection, entries: Sequence[Entry], *, again: bool = False) -> list[Result]:
    """Write entries in a transaction of the caller's; what they hold may refer to earlier ones among them.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In a transaction that writes.
    entries : sequence of Entry
        In the order in which they were made.
    again : bool
        Some of them may be in the log already: it was not known whether an earlier try had succeeded.

    Returns
    -------
    list of Result
        For each entry, the same order: a receipt for feedback; an `UnknownDecisionError` where the log does not know
        the decision, then nothing of this entry was written.
    """
    if not entries:
        return []
    prepared = statements_for(connection.dialect)
    _add_decisions(connection, prepared, [entry for entry in entries if isinstance(entry, NewDecision)])
    answered_by = _answered_by(connection, prepared, entries)
    results: list[Result] = [
        None if isinstance(entry, NewDecision) or entry.decision_id in answered_by else _unknown(entry.decision_id)
        for entry in entries
    ]
    known = [entry for entry, result in zip(entries, results, strict=True) if result is None]
    _add_links(connection, prepared, [entry for entry in known if isinstance(entry, NewLinks)])
    outcomes = [entry for entry in known if isinstance(entry, NewOutcome)]
    _add_outcomes(connection, prepared, _missing(connection, outcomes) if again and outcomes else outcomes, answered_by)
    judged = [entry for entry in known if isinstance(entry, NewFeedback)]
    receipts = iter(_add_feedback(connection, prepared, judged, answered_by))
    for position, entry in enumerate(entries):
        if isinstance(entry, NewFeedback) and results[position] is None:
            results[position] = next(receipts)
    unmatched = sum(
        isinstance(entry, NewFeedback) and isinstance(result, Exception)
        for entry, result in zip(entries, results, strict=True)
    )
    duplicates = sum(isinstance(result, FeedbackReceipt) and result.status == "duplicate" for result in results)
    _count(connection, prepared, Counter(feedback_unmatched=unmatched, feedback_duplicate=duplicates))
    return results


def _unknown(decision_id: str) -> UnknownDecisionError:
    return UnknownDecisionError(unknown_decision(decision_id))


def _add_decisions(connection: sa.Connection, prepared: Statements, entries: Sequence[NewDecision]) -> None:
    if not entries:
        return
    prepared.add_decision.add(connection, [_decision_row(entry) for entry in entries])
    prompts = [
        {"decision_id": entry.record.decision.decision_id, "text": entry.record.prompt}
        for entry in entries
        if entry.record.prompt is not None
    ]
    if prompts:
        prepared.add_prompt.add(connection, prompts)


def _decision_row(entry: NewDecision) -> dict[str, Any]:
    record, decision = entry.record, entry.record.decision
    lambda_ = decision.willingness_to_pay
    return {
        "decision_id": decision.decision_id,
        "time_s": decision.time_s,
        "policy": record.policy,
        "encoder": record.encoder,
        "candidate": decision.candidate,
        "propensity": decision.propensity,
        "explored": decision.explored,
        "reason": decision.reason,
        "willingness_to_pay": lambda_ if math.isfinite(lambda_) else None,
        "uncertainty_weight": decision.uncertainty_weight,
        "penalty_weight": decision.penalty_weight,
        "prompt_tokens": record.prompt_tokens,
        "ranking": compact_json(decision.ranking),
        "scores": compact_json(_records(decision.scores)),
        "embedding": record.embedding.tobytes(),
    }


def _records(scores: Mapping[str, Score]) -> dict[str, dict[str, Any]]:
    if isinstance(scores, ScoreTable):
        return scores.records()
    return {name: asdict(score) for name, score in scores.items()}


def _answered_by(connection: sa.Connection, prepared: Statements, entries: Sequence[Entry]) -> dict[str, str]:
    """Return who answered each decision that the log knows, as far as it does; those to be judged are locked.

    That is the last candidate without an error, else the one that was chosen (`base.credited_candidate`).
    """
    judged = {entry.decision_id for entry in entries if isinstance(entry, NewFeedback)}
    others = {entry.decision_id for entry in entries if isinstance(entry, NewOutcome | NewLinks)} - judged
    credited = {
        entry.record.decision.decision_id: entry.record.decision.candidate
        for entry in entries
        if isinstance(entry, NewDecision)
    }
    if others - credited.keys():
        rows = connection.execute(prepared.chosen, {"decision_ids": sorted(others - credited.keys())})
        credited |= {row.decision_id: row.candidate for row in rows}
    if judged:
        # The rows are locked (on SQLite: the whole file), so that two workers can't both read the old label.
        for row in connection.execute(prepared.chosen_and_locked, {"decision_ids": sorted(judged)}):
            credited[row.decision_id] = row.answered_by or row.candidate
    return credited


def _add_links(connection: sa.Connection, prepared: Statements, entries: Sequence[NewLinks]) -> None:
    links = sorted({(name, entry.decision_id) for entry in entries for name in entry.names})
    if links:
        rows = [{"name": name, "decision_id": decision_id} for name, decision_id in links]
        prepared.add_link.add(connection, rows)


def _missing(connection: sa.Connection, entries: Sequence[NewOutcome]) -> list[NewOutcome]:
    table = schema.outcomes
    columns = (table.c.decision_id, table.c.candidate, table.c.time_s)
    query = sa.select(*columns).where(table.c.decision_id.in_({entry.decision_id for entry in entries}))
    there = {tuple(row) for row in connection.execute(query)}
    return [e for e in entries if (e.decision_id, e.outcome.candidate, e.time_s) not in there]


def _add_outcomes(
    connection: sa.Connection, prepared: Statements, entries: Sequence[NewOutcome], answered_by: dict[str, str]
) -> None:
    if not entries:
        return
    wait_to_append(connection, schema.outcomes)
    rows = [
        {
            "decision_id": entry.decision_id,
            "time_s": entry.time_s,
            **dict(zip(_OUTCOME_FIELDS, _OUTCOME_VALUES(entry.outcome), strict=True)),
        }
        for entry in entries
    ]
    prepared.add_outcome.add(connection, rows)
    answered_by |= {entry.decision_id: entry.outcome.candidate for entry in entries if entry.outcome.error is None}


def _add_feedback(
    connection: sa.Connection, prepared: Statements, entries: Sequence[NewFeedback], answered_by: dict[str, str]
) -> list[FeedbackReceipt]:
    if not entries:
        return []
    judged = _judged(connection, prepared, {entry.decision_id for entry in entries})
    receipts, latest, changes = [], [], []
    for entry in entries:
        known = judged.setdefault(entry.decision_id, Judged(candidate=answered_by[entry.decision_id]))
        change = known.judge(entry.key, entry.label)
        receipts.append(
            FeedbackReceipt(
                decision_id=entry.decision_id,
                candidate=known.candidate,
                key=entry.key,
                reward=entry.label.value,
                status=change.status,
            )
        )
        if change.status == "duplicate":
            continue
        said = {
            "decision_id": entry.decision_id,
            "key": entry.key,
            "reward": entry.label.value,
            "weight": entry.label.weight,
            "time_s": entry.time_s,
        }
        before, before_weight = change.before or (None, None)
        after, after_weight = change.after
        log = {"before": before, "before_weight": before_weight, "after": after, "after_weight": after_weight}
        latest.append(said)
        changes.append({**said, "candidate": known.candidate, **log})
    if changes:
        prepared.put_feedback.add(connection, latest)
        wait_to_append(connection, schema.feedback_log)
        prepared.add_label_change.add(connection, changes)
    return receipts


def _judged(connection: sa.Connection, prepared: Statements, decision_ids: Iterable[str]) -> dict[str, Judged]:
    found: dict[str, Judged] = {}
    for row in connection.execute(prepared.labels, {"decision_ids": sorted(decision_ids)}):
        standing = Label(row.after, row.after_weight)
        known = found.setdefault(row.decision_id, Judged(candidate=row.candidate, label=standing))
        known.given[row.key] = Label(row.reward, row.weight)
    return found


def _count(connection: sa.Connection, prepared: Statements, counted: Counter[str]) -> None:
    rows = [{"name": name, "value": number} for name, number in sorted(counted.items()) if number]
    if rows:
        prepared.count.add(connection, rows)
