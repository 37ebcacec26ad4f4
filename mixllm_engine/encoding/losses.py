"""The paper's tag-enhanced losses (section 3.1, equations 1 to 3); needs torch, so only training imports it.

The paper leaves its dot products unnormalised and without a temperature, so that L_inter has no lower bound: norms
can grow for ever. Here embeddings and centroids are brought to unit norm and cosines divided by a temperature T.
"""

from __future__ import annotations

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional


def intra_loss(embeddings: Tensor, centroids: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """L_intra, equation 1: queries are drawn to the centroid of their own class.

    L_intra = -1/n sum_i log[ exp(e_i . mu_y(i) / T) / sum_j exp(e_i . mu_j / T) ]

    Parameters
    ----------
    embeddings : tensor of shape (n, d)
        e; brought to unit norm here.
    centroids : tensor of shape (J, d)
        mu; brought to unit norm here.
    labels : tensor of shape (n,)
        y: the class of each query.
    temperature : float
        T.
    """
    cosines = functional.normalize(embeddings, dim=-1) @ functional.normalize(centroids, dim=-1).T
    return functional.cross_entropy(cosines / temperature, labels)


def inter_loss(centroids: Tensor, *, temperature: float) -> Tensor:
    """L_inter, equation 2: centroids are driven apart.

    L_inter = 1/J sum_j log sum_{k != j} exp(mu_j . mu_k / T)

    It lies between log(J - 1) - 1 / ((J - 1) T), the corners of a regular simplex, and log(J - 1) + 1 / T, all equal.

    Parameters
    ----------
    centroids : tensor of shape (J, d)
        mu, at least two; brought to unit norm here.
    temperature : float
        T.
    """
    directions = functional.normalize(centroids, dim=-1)
    cosines = directions @ directions.T / temperature
    itself = torch.eye(len(centroids), dtype=torch.bool, device=centroids.device)
    return cosines.masked_fill(itself, -torch.inf).logsumexp(dim=1).mean()


class CentroidLoss(nn.Module):
    """L = L_intra + weight L_inter, equation 3, with learned centroids, in the form sentence-transformers trains.

    Parameters
    ----------
    model : SentenceTransformer
        The encoder; a part of the loss, so that its weights are found.
    centroids : tensor of shape (J, d)
        Where the centroids start.
    temperature : float
        T.
    inter_weight : float
        Weight of L_inter.
    """

    def __init__(
        self, model: SentenceTransformer, centroids: Tensor, *, temperature: float, inter_weight: float
    ) -> None:
        super().__init__()
        self.model = model
        self.centroids = nn.Parameter(centroids.clone())
        self.temperature = temperature
        self.inter_weight = inter_weight

    def forward(self, sentence_features: list[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Return the loss of one batch."""
        embeddings = self.model(sentence_features[0])["sentence_embedding"]
        intra = intra_loss(embeddings, self.centroids, labels, temperature=self.temperature)
        return intra + self.inter_weight * inter_loss(self.centroids, temperature=self.temperature)
