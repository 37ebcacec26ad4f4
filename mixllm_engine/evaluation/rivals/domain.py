"""The true domain label: what a perfect classifier of data sets would know."""

from __future__ import annotations

import numpy as np

from mixllm_engine.errors import TableError
from mixllm_engine.evaluation.rivals.base import Domains, Rows
from mixllm_engine.types import Matrix

# So many queries the overall mean counts in each domain's.
_PRIOR_QUERIES = 2.0


class DomainLabel:
    """Expect of every candidate its mean in the query's domain, and its overall mean in a domain that is new."""

    def fit(self, embeddings: Rows, quality: Matrix, domains: Domains) -> None:
        """Take the means by domain, or raise `TableError` where the domains are not known."""
        labels = np.array(_known(domains))
        self._overall = quality.mean(axis=0)
        self._mean = {}
        for domain in set(labels.tolist()):
            own = quality[labels == domain]
            self._mean[domain] = (own.sum(axis=0) + _PRIOR_QUERIES * self._overall) / (len(own) + _PRIOR_QUERIES)

    def predict(self, embeddings: Rows, domains: Domains) -> Matrix:
        """Look them up."""
        return np.stack([self._mean.get(domain, self._overall) for domain in _known(domains)])


def _known(domains: Domains) -> list[str]:
    if domains is None:
        raise TableError("the domain label needs a table with a column 'domain'")
    return list(domains)
