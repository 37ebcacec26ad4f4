"""Domain centroids by L_intra on an encoder that stays as it is (paper, equation 1): multinomial logistic regression.

    minimise  -1/n sum_i log softmax_y(i)(e_i . w_j + b_j)  +  penalty / 2 sum_j |w_j|^2

w_j / |w_j| is the centroid mu_j, 1 / |w_j| its temperature.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from mixllm_engine.types import Matrix, Vector

_PENALTY: Final = 3e-5
_STEPS: Final = 500


def softmax_regression(rows: Matrix, labels: npt.NDArray[np.integer]) -> tuple[Matrix, Vector]:
    """Return w of shape (m, d) and b of shape (m,) for rows of shape (n, d) and labels from 0 to m - 1.

    Nesterov's accelerated gradient with the step 1 / L. It does not go on to the minimum: stopping is part of the
    regularisation.

    References
    ----------
    Y. Nesterov (1983), "A method of solving a convex programming problem with convergence rate O(1/k^2)". The bound
    L <= largest eigenvalue of X'X / (2 n): Boehning (1992), "Multinomial logistic regression algorithm".
    """
    classes = int(labels.max()) + 1
    mean = rows.mean(axis=0)
    centred = np.concatenate([rows - mean, np.ones((len(rows), 1))], axis=1)
    truth = np.eye(classes)[labels]
    penalty = np.full(centred.shape[1], _PENALTY)
    penalty[-1] = 0.0  # b is free
    step = 1.0 / (np.linalg.eigvalsh(centred.T @ centred)[-1] / (2.0 * len(rows)) + _PENALTY)
    weights = ahead = np.zeros((classes, centred.shape[1]))
    for number in range(_STEPS):
        scores = centred @ ahead.T
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        wrong = scores / scores.sum(axis=1, keepdims=True) - truth
        older, weights = weights, ahead - step * (wrong.T @ centred / len(rows) + penalty * ahead)
        ahead = weights + number / (number + 3.0) * (weights - older)
    return weights[:, :-1], weights[:, -1] - weights[:, :-1] @ mean
