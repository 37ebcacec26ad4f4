"""Rows of which many are alike: each is kept once, and what follows from it is worked out once for all that have it.

Candidates that saw the same contexts have the same precision: all of them before the first observation and after a
table in which everybody answered every query, and most of them as long as few of many candidates get feedback.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mixllm_engine.types import Matrix, Vector

# BLAS multiplies so many rows at once, and those that are left over in another order of additions. It is always given
# whole blocks, so that nobody's products change in the last bit with the number of rows that others have.
_BLOCK: Final = 4


def in_blocks(rows: int) -> int:
    """Return how many rows a matrix needs, so that those that are used are in whole blocks of BLAS.

    Examples
    --------
    >>> in_blocks(6)
    8
    """
    return -(-rows // _BLOCK) * _BLOCK


class SharedRows:
    """One row for each candidate, all alike in the beginning.

    Parameters
    ----------
    count : int
        Candidates K.
    row : array of shape (p,)
        What all of them begin with.

    Examples
    --------
    >>> rows = SharedRows(3, np.array([1.0, 2.0]))
    >>> rows.own(1, np.array([0.0, 1.0]))
    >>> rows.dot(np.array([1.0, 1.0])).tolist()
    [3.0, 1.0, 3.0]
    >>> len(rows.distinct)
    2
    """

    def __init__(self, count: int, row: Vector) -> None:
        self._room = np.zeros((_BLOCK, len(row)))  # the distinct rows, then room for more
        self._room[0] = row
        self._place = np.zeros(count, dtype=np.intp)  # of each candidate's row
        self._owners = [count]  # how many candidates have each distinct row

    def __getitem__(self, position: int) -> Vector:
        """Return a candidate's row."""
        row: Vector = self._room[self._place[position]]
        return row

    @property
    def distinct(self) -> Matrix:
        """The rows that are kept, shape (m, p) with m <= K."""
        return self._room[: len(self._owners)]

    def all(self) -> Matrix:
        """Return the row of every candidate, shape (K, p)."""
        return self.distinct[self._place]

    def dot(self, vector: Vector) -> Vector:
        """Return the product of every candidate's row with a vector of shape (p,), shape (K,)."""
        products: Vector = self._room[: in_blocks(len(self._owners))].dot(vector).take(self._place)
        return products

    def own(self, position: int, row: Vector) -> None:
        """Give a candidate a row that nobody else is likely to have."""
        place = self._place[position]
        if self._owners[place] > 1:
            self._owners[place] -= 1
            place = self._place[position] = len(self._owners)
            self._owners.append(1)
            if place == len(self._room):
                self._room = np.concatenate([self._room, np.zeros_like(self._room)])
        self._room[place] = row

    def share(self, position: int, row: Vector) -> None:
        """Give a candidate a row that others may have too."""
        place = next((place for place in self._begin_with(row[0]) if np.array_equal(self._room[place], row)), None)
        if place is None:
            self.own(position, row)
            return
        left = self._place[position]
        self._place[position] = place
        self._owners[place] += 1
        self._owners[left] -= 1
        if not self._owners[left]:
            self._drop(left)

    def _begin_with(self, number: float) -> list[int]:
        places: list[int] = np.flatnonzero(self.distinct[:, 0] == number).tolist()
        return places

    def _drop(self, place: int) -> None:
        """Fill the place of a row that nobody has any more with the last one."""
        last = len(self._owners) - 1
        self._room[place] = self._room[last]
        self._place[self._place == last] = place
        self._owners[place] = self._owners[last]
        self._owners.pop()
