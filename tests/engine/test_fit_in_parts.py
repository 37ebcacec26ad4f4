"""A long table is learned in parts: little is held at once, and the result is that of one pass."""

from __future__ import annotations

import threading
import tracemalloc
import zlib
from collections.abc import Sequence

import numpy as np
import pytest

from mixllm_engine import QueryError, TableError
from mixllm_engine.candidates import Pool
from mixllm_engine.config import FeatureConfig
from mixllm_engine.encoding.context import ContextMaker
from mixllm_engine.encoding.encoder import Embeddings
from mixllm_engine.learning.offline import fit
from mixllm_engine.learning.table import read_table
from mixllm_engine.prediction.heads import HeadStatistics
from mixllm_engine.testing import HashingEncoder, tiny_pool, tiny_router

NAMES = ("cheap", "dear", "middle")


class WatchedEncoder(HashingEncoder):
    """As wide as a real encoder; counts the texts of each call and those that nobody has taken yet."""

    def __init__(self) -> None:
        super().__init__(384)
        self.calls: list[int] = []
        self._bank = np.linalg.qr(np.random.default_rng(0).normal(size=(384, 384)))[0].astype(np.float32)
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> Embeddings:
        with self._lock:
            self.calls.append(len(texts))
        vectors: Embeddings = self._bank[[zlib.crc32(text.encode()) % 384 for text in texts]]
        return vectors


def columns(rows: int) -> dict[str, object]:
    rng = np.random.default_rng(1)
    table: dict[str, object] = {"prompt": [f"question {k}" for k in range(rows)]}
    for name in NAMES:
        quality = rng.random(rows)
        quality[rng.random(rows) < 0.1] = np.nan
        table[f"{name}|quality"] = quality
        table[f"{name}|cost_usd"] = rng.random(rows) / 1000
    return table


def test_parts_add_up_to_one_pass() -> None:
    pool = Pool(tiny_pool(names=NAMES))
    table = read_table(columns(3000), text="prompt", known=pool.names)
    contexts = ContextMaker(HashingEncoder(), FeatureConfig())
    whole = contexts.many(table.texts)
    parts = list(contexts.stream(table.texts))
    assert len(parts) == 3
    once, by_parts, row_by_row = (
        fit(table, chunks, pool, None)
        for chunks in ([whole], iter(parts), ((whole[0][k : k + 1], whole[1][k : k + 1]) for k in range(3000)))
    )
    for other in (by_parts, row_by_row):
        for head in ("quality", "length"):
            for name in NAMES:
                expected: HeadStatistics = getattr(once.learned, head)[name]
                found: HeadStatistics = getattr(other.learned, head)[name]
                for field in ("count", "gram", "moment", "square"):
                    assert np.allclose(getattr(found, field), getattr(expected, field), rtol=1e-9, atol=1e-9)
        assert other.learned.typical.response_tokens == pytest.approx(once.learned.typical.response_tokens, rel=1e-9)
        assert other.learned.typical.prompt_tokens == pytest.approx(once.learned.typical.prompt_tokens, rel=1e-9)
        assert np.allclose(other.contexts, once.contexts, atol=1e-12)


def test_a_fit_is_the_same_every_time() -> None:
    table = columns(10_500)  # more than budgets are calibrated on
    one, two = (tiny_router(names=NAMES, encoder=WatchedEncoder()) for _ in range(2))
    assert one.fit(table, progress=False) == two.fit(table, progress=False)
    for field in ("quality", "cost_usd", "response_tokens", "uncertainty"):
        first, second = (getattr(router.predict(["question 3", "else"]), field) for router in (one, two))
        assert np.array_equal(first, second)
    assert one.decide("x", budget="low").willingness_to_pay == two.decide("x", budget="low").willingness_to_pay


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_never_held_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    rows, table, encoder = 100_000, columns(100_000), WatchedEncoder()
    router = tiny_router(names=NAMES, encoder=encoder)
    router.predict(["warm"])
    encoder.calls.clear()
    tracemalloc.start()
    try:
        report = router.fit(table)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.rows == rows
    assert max(encoder.calls) <= 64 and sum(encoder.calls) == rows
    embeddings = rows * 384 * 4
    assert peak < embeddings / 3  # the embeddings alone would be 154 MB; the table's own numbers are 17 MB
    assert "encoding queries" in capsys.readouterr().err


def test_encoding_does_not_run_far_ahead_of_who_takes_the_result() -> None:
    encoder = WatchedEncoder()
    contexts = ContextMaker(encoder, FeatureConfig())
    _ = contexts.features
    encoder.calls.clear()
    parts = contexts.stream([f"question {k}" for k in range(50_000)])
    taken = len(next(parts)[0])
    assert taken == 1024
    assert sum(encoder.calls) < 20_000
    parts.close()  # type: ignore[attr-defined]


def test_an_empty_text_is_found_before_anything_is_encoded() -> None:
    encoder = WatchedEncoder()
    contexts = ContextMaker(encoder, FeatureConfig())
    with pytest.raises(QueryError, match="text 2 is empty"):
        contexts.many(["a", "b", " "])
    with pytest.raises(TableError, match="row 1: the query is empty"):
        tiny_router(encoder=encoder).fit({"prompt": ["a", ""], "cheap|quality": [1, 1]})
    assert not encoder.calls
