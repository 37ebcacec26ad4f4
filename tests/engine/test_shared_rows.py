"""Rows that are kept once behave as if each candidate had its own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mixllm_engine.prediction.shared_rows import SharedRows

CANDIDATES = 4
# Few different rows, two of which begin alike, so that candidates often come to share one.
KINDS = np.array([[0.0, 1.0, 2.0], [0.0, 3.0, 4.0], [5.0, 6.0, 7.0], [-1.0, 0.5, 0.25]])
CHANGE = st.tuples(st.integers(0, CANDIDATES - 1), st.integers(0, len(KINDS) - 1), st.booleans())
CHANGES = st.lists(CHANGE, max_size=30)


@given(CHANGES)
def test_every_candidate_has_the_row_that_it_was_given(changes: list[tuple[int, int, bool]]) -> None:
    rows, plain = SharedRows(CANDIDATES, KINDS[0]), np.tile(KINDS[0], (CANDIDATES, 1))
    for position, kind, shared in changes:
        (rows.share if shared else rows.own)(position, KINDS[kind])
        plain[position] = KINDS[kind]
        assert np.array_equal(rows.all(), plain)
        assert all(np.array_equal(rows[place], plain[place]) for place in range(CANDIDATES))
        assert np.allclose(rows.dot(np.array([1.0, 2.0, 3.0])), plain @ [1.0, 2.0, 3.0], atol=1e-12)
        assert len(np.unique(plain, axis=0)) <= len(rows.distinct) <= CANDIDATES
        kept = {row.tobytes() for row in rows.distinct}
        assert kept == {row.tobytes() for row in plain}  # none is kept that nobody has


@given(st.lists(st.integers(0, len(KINDS) - 1), min_size=CANDIDATES, max_size=CANDIDATES))
def test_rows_that_are_shared_are_kept_once(kinds: list[int]) -> None:
    rows = SharedRows(CANDIDATES, KINDS[0])
    for position, kind in enumerate(kinds):
        rows.share(position, KINDS[kind])
    assert len(rows.distinct) == len(set(kinds))


def test_what_one_candidate_gets_changes_nobody_elses() -> None:
    row = KINDS[0].copy()
    rows = SharedRows(2, row)
    row += 1.0
    rows.own(0, KINDS[1])
    rows.own(0, KINDS[2])
    assert np.array_equal(rows.all(), KINDS[[2, 0]])
