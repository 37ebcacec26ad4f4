"""The log in a database: SQLite in WAL mode, or PostgreSQL.

A transaction that returned is on disk (SQLite: ``synchronous=FULL``; PostgreSQL: as its server is set up), so what was
acknowledged survives ``kill -9``. What is written together and by whom: `store.journal`; as which rows:
`store.appending`; what is read: `store.reading`.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc

from mixllm_engine.config import StorageConfig
from mixllm_engine.errors import StoreError, StoreUnavailableError, UnknownDecisionError
from mixllm_engine.store import schema
from mixllm_engine.store.appending import append
from mixllm_engine.store.base import DecisionRecord, Fold, Pruned, StoredState, Surplus, WorkerRow
from mixllm_engine.store.engines import make_engine, shown
from mixllm_engine.store.entries import Entry, NewDecision, NewFeedback, NewLinks, NewOutcome, Result
from mixllm_engine.store.forking import Connections
from mixllm_engine.store.journal import Journal
from mixllm_engine.store.preparing import prepare
from mixllm_engine.store.pruning import forget_prompts, lock_states, prune, put_state
from mixllm_engine.store.reading import Reading, present_state
from mixllm_engine.store.statements import statements_for
from mixllm_engine.store.transactions import Transactions
from mixllm_engine.types import FeedbackReceipt, Label, Outcome

# What the statement or its values are to blame for: the same would fail again.
_OURS: Final = (exc.DataError, exc.IntegrityError, exc.ProgrammingError, exc.NotSupportedError)
# Decisions that found no room, and whose answers may still come.
_REMEMBERED: Final = 100_000


class SqlStore(Reading):
    """A durable store.

    Parameters
    ----------
    url : str or sqlalchemy.URL
        SQLAlchemy URL, such as ``sqlite:////var/lib/mixllm.db`` or ``postgresql+psycopg://user@host/name``. Its
        password is never shown.
    config : StorageConfig, optional
        What waits for the disk, and what happens while the database can't be reached.

    Raises
    ------
    StoreError
        If the database can't be reached, is damaged, belongs to something else, or has another schema version.
    """

    shared = True

    def __init__(self, url: str | sa.URL, config: StorageConfig | None = None) -> None:
        self.config = config or StorageConfig()
        self._engine = make_engine(url)
        weakref.finalize(self, self._engine.dispose)  # for stores that nobody closes
        self._transactions = Transactions(self._engine)
        self._connections = Connections(self._engine)
        self._name = repr(shown(self._engine.url))
        self._journal = Journal(self._append, self.config.queue)
        self.written = 0
        self._given_up = OrderedDict[str, None]()  # the latest decisions that found no room
        try:
            with self._guarded():
                prepare(self._transactions, self._name)
        except StoreError:
            self.close()
            raise

    @cached_property
    def identity(self) -> str:
        """The random name of this log."""
        return self.meta("identity")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn the driver's errors into ours; they name the file, never the password or a statement's values."""
        try:
            with self._connections.in_use():
                yield
        except _OURS as error:
            raise StoreError(self._said(error)) from error
        except (exc.DBAPIError, exc.TimeoutError) as error:
            raise StoreUnavailableError(self._said(error)) from error
        except (OverflowError, UnicodeError) as error:  # the drivers' words for numbers and texts that they can't keep
            raise StoreError(f"the store {self._name} can't keep a value: {error}") from error

    def _said(self, error: exc.DBAPIError | exc.TimeoutError) -> str:
        said = str(error.orig if isinstance(error, exc.DBAPIError) else error)
        first, _, _ = said.partition("\n")  # PostgreSQL's further lines repeat values
        return f"the store {self._name} can't be used: {first}"

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Begin a transaction; what it wrote is durable when it ends well, and undone when it does not."""
        with self._guarded(), self._transactions.writing() as connection:
            yield connection

    @contextmanager
    def reading_at_one_moment(self) -> Iterator[sa.Connection]:
        """Begin a transaction that sees nothing of what others write meanwhile, and does not hinder them."""
        self._journal.settle()
        with self._guarded(), self._transactions.at_one_moment() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        self._journal.settle()
        with self._guarded(), self._transactions.reading() as connection:
            yield connection

    @contextmanager
    def _asking(self) -> Iterator[sa.Connection]:
        with self._guarded(), self._transactions.asking() as connection:
            yield connection

    # -- writing -----------------------------------------------------------------------------------------------------

    def _append(self, entries: Sequence[Entry], again: bool) -> Sequence[Result]:
        results = self._appended(entries, again)
        if any(isinstance(entry, NewFeedback | NewOutcome) for entry in entries):
            self.written += 1
        return results

    def _appended(self, entries: Sequence[Entry], again: bool) -> Sequence[Result]:
        try:
            with self.writing() as connection:
                return append(connection, entries, again=again)
        except StoreUnavailableError as error:
            if not _lost_connection(error):
                raise
        with self.writing() as connection:  # by a new one: the server may have been restarted
            return append(connection, entries, again=True)

    @property
    def unwritten(self) -> int:
        """Number of entries that wait to be written."""
        return self._journal.waiting

    @property
    def lost(self) -> int:
        """Number of entries that this process had to give up."""
        return self._journal.lost

    def add_decision(self, record: DecisionRecord) -> None:
        """Keep a decision; it waits where the database is slow or out of reach."""
        self._keep(record.decision.decision_id, NewDecision(record=record))

    def add_outcome(self, decision_id: str, outcome: Outcome, time_s: float) -> None:
        """Keep an outcome, as a decision is, or raise `UnknownDecisionError`."""
        self._keep(decision_id, NewOutcome(decision_id=decision_id, outcome=outcome, time_s=time_s))

    def link(self, decision_id: str, names: Sequence[str]) -> None:
        """Let names lead to a decision, or raise `UnknownDecisionError`."""
        self._keep(decision_id, NewLinks(decision_id=decision_id, names=tuple(names)))

    def _keep(self, decision_id: str, entry: Entry) -> None:
        """Keep an entry; an answer is worth more than its record, for which there may be no room."""
        try:
            self._journal.put(entry, lasting=True, wait=self.config.decisions == "written")
        except StoreUnavailableError:
            self._given_up[decision_id] = None
            if len(self._given_up) > _REMEMBERED:
                self._given_up.popitem(last=False)
        except UnknownDecisionError:
            if decision_id not in self._given_up:
                raise
        else:
            return
        self._journal.gave_up()

    def add_feedback(self, decision_id: str, key: str, label: Label, time_s: float) -> FeedbackReceipt:
        """Keep feedback durably, credited to the candidate that answered, or raise `UnknownDecisionError`.

        Raises `StoreUnavailableError`, or lets it wait, where the database can't be reached.
        """
        entry = NewFeedback(decision_id=decision_id, key=key, label=label, time_s=time_s)
        receipt = self._journal.put(entry, lasting=self.config.feedback == "queues")
        if isinstance(receipt, FeedbackReceipt):
            return receipt
        return FeedbackReceipt(decision_id=decision_id, candidate=None, key=key, reward=label.value, status="queued")

    def change_state(self, encoder: str, change: Callable[[StoredState | None], bytes], time_s: float) -> int:
        """Keep a state made from the present one, which nobody changes in between; returns its number."""
        with self.writing() as connection:
            lock_states(connection)
            return put_state(connection, encoder, change(present_state(connection, encoder)), time_s)

    def prune(self, surplus: Surplus, fold: Fold, limit: int, time_s: float) -> Pruned | None:
        """Drop decisions, oldest first, in exchange for a state that knows what they taught."""
        with self.writing() as connection:
            return prune(connection, surplus, fold, limit, time_s)

    def forget_prompts(self, before_s: float) -> int:
        """Drop the texts of prompts of decisions made before a time; returns their number."""
        with self.writing() as connection:
            return forget_prompts(connection, before_s)

    def exchange(self, own: WorkerRow) -> Sequence[WorkerRow]:
        """Keep a worker's row in place of its older one, and return those of all others."""
        table = schema.workers
        with self.writing() as connection:
            statements_for(connection.dialect).put_worker.add(connection, [asdict(own)])
            rows = connection.execute(sa.select(table).where(table.c.name != own.name)).all()
        return [WorkerRow(**row._mapping) for row in rows]

    def forget_workers(self, names: Sequence[str]) -> None:
        """Take the rows of workers away."""
        with self.writing() as connection:
            connection.execute(sa.delete(schema.workers).where(schema.workers.c.name.in_(names)))

    def decision(self, decision_id: str) -> DecisionRecord:
        """Return a decision, or raise `UnknownDecisionError`."""
        try:
            return super().decision(decision_id)
        except UnknownDecisionError as error:
            if not self.unwritten:
                raise
            raise StoreUnavailableError(
                f"{error}; {self.unwritten} entries still wait to be written, and it may be among them"
            ) from error

    def close(self) -> None:
        """Write what waits, and close every connection."""
        self._journal.close()
        self._engine.dispose()


def _lost_connection(error: StoreUnavailableError) -> bool:
    cause = error.__cause__
    return isinstance(cause, exc.DBAPIError) and cause.connection_invalidated
