"""Servers that restart, hang or take too long: nobody is held up, and what failed is tried again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from mixllm_engine import StoreUnavailableError
from mixllm_engine.store import open_store
from tests.engine import postgres
from tests.engine.stores import ask, labels, router_on, until


def test_a_server_that_restarts_between_two_calls_is_not_noticed(server: postgres.Server) -> None:
    with postgres.empty_schema(server.url) as url, router_on(url) as router:
        for decide_first in (True, False):
            decision = ask(router)
            server.stop()
            server.start()
            if decide_first:
                ask(router)
            assert router.feedback(decision, 0.0).status == "applied"
        stats = router.stats()
        assert (stats["decisions"], stats["outcomes"], stats["writes_waiting"], stats["writes_lost"]) == (3, 3, 0, 0)


@pytest.fixture
def stuck(postgres_server: sa.URL, postgres_url: str) -> Iterator[sa.Connection]:
    """Hold locks in whose way every statement is, as a server that hangs does, until they are rolled back."""
    engine = sa.create_engine(postgres_url)
    open_store(postgres_url).close()
    with engine.connect() as connection:
        yield connection
    engine.dispose()


LOCK = "LOCK TABLE mixllm_decisions, mixllm_outcomes, mixllm_feedback_log IN ACCESS EXCLUSIVE MODE"


def test_a_database_that_hangs_holds_nobody_up(stuck: sa.Connection, postgres_url: str) -> None:
    with router_on(postgres_url) as router, ThreadPoolExecutor(2) as threads:
        ask(router)
        stuck.exec_driver_sql(LOCK)
        counted = threads.submit(router.stats)
        started = time.monotonic()
        decisions = [ask(router, number) for number in range(10)]
        assert time.monotonic() - started < 3.0
        judged = threads.submit(router.feedback, decisions[0], 1.0)
        time.sleep(0.1)
        assert not judged.done()  # it is durable when it returns
        assert not counted.done()
        stuck.rollback()
        assert judged.result(20.0).status == "applied"
        counted.result(20.0)
        stats = router.stats()
        assert (stats["decisions"], stats["outcomes"], stats["feedback_applied"]) == (11, 11, 1)


def test_a_statement_that_takes_too_long_is_tried_again(stuck: sa.Connection, postgres_url: str) -> None:
    url = sa.make_url(postgres_url)
    options = f"{url.query['options']} -cstatement_timeout=100"
    impatient = url.update_query_dict({"options": options}).render_as_string(hide_password=False)
    with router_on(impatient, "queues") as router:
        decision = ask(router)
        stuck.exec_driver_sql(LOCK)
        for number in range(5):
            ask(router, number)
        assert router.feedback(decision, 1.0).status == "queued"
        with pytest.raises(StoreUnavailableError, match="canceling statement due to statement timeout"):
            router.sync()
        stuck.rollback()
        until(lambda: labels(router) == 1.0)
        stats = router.stats()
        assert (stats["decisions"], stats["outcomes"], stats["feedback_applied"]) == (6, 6, 1)
