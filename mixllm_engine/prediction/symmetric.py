"""Symmetric matrices kept as one triangle: x'Mx for many of them is one product, and reads half the numbers.

    x' M x = sum over i <= j of m_ij x_i x_j      with m_ii = M_ii on the diagonal, and m_ij = 2 M_ij beside it

Packing loses nothing: a factor of two is exact.
"""

from __future__ import annotations

import numpy as np

from mixllm_engine.types import Matrix, Vector


class Triangle:
    """Pack and unpack symmetric matrices of one size.

    Parameters
    ----------
    dimension : int
        Rows d of a matrix.

    Examples
    --------
    >>> triangle = Triangle(2)
    >>> packed = triangle.pack(np.array([[1.0, 2.0], [2.0, 3.0]]))
    >>> packed.tolist()
    [1.0, 4.0, 3.0]
    >>> float(triangle.products(np.array([1.0, -1.0])) @ packed)
    0.0
    """

    def __init__(self, dimension: int) -> None:
        rows, self._columns = np.triu_indices(dimension)
        self._in_row = np.arange(dimension, 0, -1)  # how many numbers of each row are kept
        self._upper = rows * dimension + self._columns
        self._times = np.where(rows == self._columns, 1.0, 2.0)
        self._parts = 1.0 / self._times
        self._places = np.empty((dimension, dimension), dtype=np.intp)
        self._places[rows, self._columns] = self._places[self._columns, rows] = np.arange(len(rows))

    def pack(self, matrices: Matrix) -> Matrix:
        """Return the m_ij, shape (..., d (d + 1) / 2), of symmetric matrices of shape (..., d, d)."""
        flat = matrices.reshape(*matrices.shape[:-2], -1)
        packed: Matrix = flat.take(self._upper, axis=-1) * self._times
        return packed

    def unpack(self, packed: Matrix) -> Matrix:
        """Return the matrices that `pack` was given."""
        matrices: Matrix = (packed * self._parts).take(self._places, axis=-1)
        return matrices

    def products(self, vector: Vector) -> Vector:
        """Return the x_i x_j of a vector of shape (d,), shape (d (d + 1) / 2,), to be multiplied by the m_ij."""
        products: Vector = vector.repeat(self._in_row) * vector.take(self._columns)
        return products


def outer(vector: Vector) -> Matrix:
    """Return x x'; as a matrix product in half the time of `numpy.outer`."""
    square: Matrix = vector[:, None].dot(vector[None, :])
    return square
