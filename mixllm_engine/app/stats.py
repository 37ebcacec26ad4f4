"""``mixllm stats``: what a store holds, what was learned from it, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import typer

from mixllm_engine.app.opened import opened
from mixllm_engine.app.options import JsonOption, PoolOption, StateOption, StoreOption
from mixllm_engine.app.printing import print_json, tabled

if TYPE_CHECKING:
    from mixllm_engine.app.learned import Learned
    from mixllm_engine.app.ledger import Ledger
    from mixllm_engine.store.sql import SqlStore

_COUNTS: Final = (
    "decisions",
    "outcomes",
    "feedback_applied",
    "feedback_duplicate",
    "feedback_replaced",
    "feedback_unmatched",
    "feedback_pending",
)
_COLUMNS: Final = ("candidate", "chosen", "share", "labels", "quality (95 %)", "calls", "failed", "spent $")


def stats(store: StoreOption, pool: PoolOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Count what was decided, judged, learned and spent.

    By candidate, with the candidates whose quality has drifted.
    """
    from mixllm_engine.app.learned import from_log
    from mixllm_engine.app.ledger import read_ledger
    from mixllm_engine.app.pool import read_candidates

    with opened(store) as log:
        ledger = read_ledger(log)
        learned = from_log(log, ledger, read_candidates((), pool), state)
        told = _told(log, ledger, learned)
    if as_json:
        print_json(told)
        return
    counts = [f"{name.replace('_', ' '):<20} {told[name]}" for name in _COUNTS]
    rows = [_row(name, of) for name, of in told["candidates"].items()]
    typer.echo("\n".join([*counts, tabled(_COLUMNS, rows), *_notes(told, ledger)]))


def _told(log: SqlStore, ledger: Ledger, learned: Learned) -> dict[str, Any]:
    """Return all numbers: those that a router counts as well are its own where there is one."""
    counts, choices = log.counts(), log.choices()
    draws = log.exploring_draws()
    applied = log.feedback_of(ledger.encoder) if ledger.encoder else 0
    known: Mapping[str, Any] = learned.stats or {
        "decisions": counts.decisions,
        "outcomes": counts.outcomes,
        "feedback_applied": applied,
        "feedback_duplicate": counts.feedback_duplicate,
        "feedback_unmatched": counts.feedback_unmatched,
        "feedback_pending": counts.feedback - applied,
        "alerts": None,
        "rollout": None,
    }
    return {
        **{name: known.get(name) for name in _COUNTS},
        "feedback": counts.feedback,
        "feedback_replaced": counts.feedback_log - counts.feedback,
        "alerts": known["alerts"],
        "rollout": known["rollout"],
        "encoder": ledger.encoder,
        "settings": learned.settings,
        "candidates": {one.name: _candidate(one.name, choices, draws, ledger, learned) for one in learned.candidates},
    }


def _candidate(
    name: str, choices: Mapping[str, int], draws: Mapping[str, int], ledger: Ledger, learned: Learned
) -> dict[str, Any]:
    from mixllm_engine.app.learned import quality
    from mixllm_engine.app.ledger import Account

    account, decisions = ledger.accounts.get(name, Account()), choices.get(name, 0)
    return {
        "decisions": decisions,
        "share": decisions / (sum(choices.values()) or 1),
        "exploring_draws": draws.get(name, 0),
        **quality(learned.of(name)),
        "outcomes": account.outcomes,
        "outcomes_kept": account.kept,
        "failures": account.failures,
        "spend_usd": account.spend_usd,
        "answers_without_cost": account.unpriced,
    }


def _row(name: str, of: Mapping[str, Any]) -> tuple[str, ...]:
    from mixllm_engine.app.learned import shown

    labels = "unknown" if of["labels"] is None else f"{of['labels']:g}"
    numbers = (str(of["decisions"]), f"{of['share']:.1%}", labels, shown(of))
    return (name, *numbers, str(of["outcomes"]), str(of["failures"]), f"{of['spend_usd']:.6f}")


def _notes(told: Mapping[str, Any], ledger: Ledger) -> list[str]:
    """Return alerts, and what a reader of the numbers has to know."""
    notes = [
        f"alert: the quality of {alert['candidate']} has shifted by {alert['shift']:+.3f} within the last "
        f"{alert['labels']} labels"
        for alert in told["alerts"] or ()
    ]
    if told["alerts"] == []:
        notes.append("no drift alerts")
    if told["alerts"] is None and ledger.encoder is not None:
        notes.append(
            f"what was learned is unknown here: the vectors are by the encoder {ledger.encoder}, not by the packaged "
            "one; ask Router.stats() of a router that has it"
        )
    if told["rollout"] is not None:
        notes.append("rollout: " + ", ".join(f"{name} {value}" for name, value in told["rollout"].items()))
    if told["alerts"] is not None and told["settings"] == "default":
        notes.append("learned with the default settings; give --state FOLDER of a saved router that has others")
    accounts = ledger.accounts.values()
    if unpriced := sum(account.unpriced for account in accounts):
        notes.append(f"{unpriced} answers have no known cost and are not in what was spent")
    if dropped := sum(account.outcomes - account.kept for account in accounts):
        notes.append(f"{dropped} outcomes were dropped from the store: failures and spend are of the others")
    return notes
