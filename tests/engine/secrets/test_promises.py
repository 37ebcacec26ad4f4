"""What docs/security.md promises: few rights are enough, files are their owner's, and texts are not kept."""

from __future__ import annotations

import dataclasses
import re
import stat
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from mixllm_engine import OnnxEncoder, Outcome, StoreError, UnknownDecisionError
from mixllm_engine.store import open_store
from mixllm_engine.store.transfer import export_log
from mixllm_engine.testing import tiny_pool, tiny_router
from mixllm_engine.types import Label
from tests.engine.secrets.hidden import PROMPT


def test_the_rights_in_the_docs_are_enough(postgres_url: str) -> None:
    page = (Path(__file__).parents[3] / "docs/security.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    administrator = sa.make_url(postgres_url)
    schema = str(administrator.query["options"]).removeprefix("-csearch_path=")
    worker, reader = f"{schema}_worker", f"{schema}_reader"
    named = {"mixllm_worker": worker, "mixllm_reader": reader, "SCHEMA mixllm": f"SCHEMA {schema}"}
    for name, own in named.items():
        block = block.replace(name, own)
    tiny_router(store=postgres_url).close()
    engine = sa.create_engine(administrator, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(block)
        try:
            as_worker = administrator.set(username=worker, password="choose-one")
            as_reader = administrator.set(username=reader, password="choose-another")
            with tiny_router(store=as_worker.render_as_string(hide_password=False)) as router:
                decision = router.decide("hello")
                router.observe(decision.decision_id, Outcome(candidate=decision.candidate))
                router.link(decision.decision_id, "run")
                assert [router.feedback("run", reward).status for reward in (1.0, 1.0, 0.0)][-1] == "replaced"
                router.add_candidate(dataclasses.replace(tiny_pool()[0], name="new"), like="cheap")
                with pytest.raises(UnknownDecisionError):
                    router.feedback("nobody", 1.0)
                assert router.stats()["feedback_unmatched"] == 1
            for role_url in (as_worker, as_reader):
                refused = pytest.raises(sa.exc.ProgrammingError, match="must be owner")
                with sa.create_engine(role_url, poolclass=NullPool).connect() as other, refused:
                    other.exec_driver_sql("DROP TABLE mixllm_feedback")
            store = open_store(as_reader.render_as_string(hide_password=False))
            assert store.counts().decisions == 1
            assert store.decision(decision.decision_id).decision.candidate == decision.candidate
            with pytest.raises(StoreError, match="permission denied"):
                store.add_feedback(decision.decision_id, "reader", Label(1.0, 1.0), 0.0)
            store.close()
        finally:
            for role in (worker, reader):
                connection.exec_driver_sql(f"DROP OWNED BY {role}")
                connection.exec_driver_sql(f"DROP ROLE {role}")


def test_states_exports_and_databases_are_for_their_owner_only(tmp_path: Path) -> None:
    with tiny_router(store=tmp_path / "log.db") as router:
        router.decide("hello")
        router.save(tmp_path / "state")
    with closing(open_store(tmp_path / "log.db")) as store:
        export_log(store, tmp_path / "log.jsonl")
    for file in (tmp_path / "state/state.safetensors", tmp_path / "log.jsonl", tmp_path / "log.db"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_files_beside_a_database_are_for_its_owner_only_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    with tiny_router(store=tmp_path / "new.db") as router:
        router.decide("hello")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"new.db": 0o600, "new.db-wal": 0o600, "new.db-shm": 0o600}
    (tmp_path / "shared.db").touch(mode=0o664)
    (tmp_path / "shared.db").chmod(0o664)
    tiny_router(store=tmp_path / "shared.db").close()
    assert stat.S_IMODE((tmp_path / "shared.db").stat().st_mode) == 0o664


def test_a_prompt_of_megabytes_costs_no_more_than_its_beginning() -> None:
    encoder, text = OnnxEncoder(), "one two three " * 100_000
    assert np.array_equal(encoder.encode([text]), encoder.encode([text[:10_000]]))
    assert encoder.count_tokens(text) == pytest.approx(300_000, rel=0.001)
    started_s = time.process_time()
    encoder.encode([text * 4])
    encoder.count_tokens(text * 4)
    assert time.process_time() - started_s < 3.0  # the whole of it would take more than ten


def test_texts_are_remembered_by_a_hash() -> None:
    router = tiny_router()
    router.decide(PROMPT)
    assert PROMPT not in repr(vars(router._contexts))
