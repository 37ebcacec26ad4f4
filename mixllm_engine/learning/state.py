"""What a router has learned, as sums: the result of a fit, of a fold over the log, or of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mixllm_engine.decision.budget import SpendCurve
from mixllm_engine.errors import StateError
from mixllm_engine.learning.feedback_network import NetworkState
from mixllm_engine.prediction.heads import HeadStatistics
from mixllm_engine.prediction.priors import TYPICAL_PROMPT_TOKENS, TYPICAL_RESPONSE_TOKENS


@dataclass(frozen=True, kw_only=True)
class Typical:
    """A typical call: from it and the prices follows the pool's reference cost, the unit of costs in the score.

    Attributes
    ----------
    prompt_tokens : float
        Mean length of a prompt.
    response_tokens : mapping of str to float
        Mean length of each candidate's answer.
    """

    prompt_tokens: float = TYPICAL_PROMPT_TOKENS
    response_tokens: Mapping[str, float] = field(default_factory=dict)

    def response(self, name: str) -> float:
        """Return a candidate's mean length, or the prior one."""
        return self.response_tokens.get(name, TYPICAL_RESPONSE_TOKENS)


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Everything that was learned and has to be stored.

    Attributes
    ----------
    quality, length : mapping of str to HeadStatistics
        Sums of each candidate's two heads.
    typical : Typical
        A typical call.
    curve : SpendCurve, optional
        Mean cost over lambda, which calibrates the budgets.
    network : NetworkState, optional
        What the policy learned from feedback; older states have none.
    drift : mapping of str to array
        Where the drift test of each candidate stands; older states have none.
    position : mapping of str to int
        How far the log was read, by the name of the log: ``"<identity>/feedback"`` and ``"<identity>/outcomes"``.
    """

    quality: Mapping[str, HeadStatistics] = field(default_factory=dict)
    length: Mapping[str, HeadStatistics] = field(default_factory=dict)
    typical: Typical = field(default_factory=Typical)
    curve: SpendCurve | None = None
    network: NetworkState | None = None
    drift: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    position: Mapping[str, int] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {
            "candidates": sorted({*self.quality, *self.length}),
            "typical_prompt_tokens": self.typical.prompt_tokens,
            "typical_response_tokens": dict(self.typical.response_tokens),
            "curve": self.curve is not None,
            "dearest_usd": self.curve.dearest_usd if self.curve else 0.0,
            "position": dict(self.position),
            "network": list(self.network.names) if self.network else None,
            "drift": sorted(self.drift),
        }

    def tensors(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the arrays."""
        arrays: dict[str, npt.NDArray[np.float64]] = {}
        for head, statistics in (("quality", self.quality), ("length", self.length)):
            for name, sums in statistics.items():
                arrays[f"{head}/{name}/gram"] = sums.gram
                arrays[f"{head}/{name}/moment"] = sums.moment
                arrays[f"{head}/{name}/scalars"] = np.array([sums.count, sums.square])
        if self.curve:
            arrays["curve/willingness_to_pay"] = self.curve.willingness_to_pay
            arrays["curve/cost_usd"] = self.curve.cost_usd
        if self.network:
            arrays |= {f"network/{name}": array for name, array in self.network.arrays.items()}
        arrays |= {f"drift/{name}": array for name, array in self.drift.items()}
        return arrays

    @classmethod
    def restore(
        cls, manifest: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[np.float64]], dimension: int
    ) -> Learned:
        """Rebuild from manifest and arrays, or raise `StateError` where something is missing or doesn't fit."""
        try:
            curve = None
            if manifest["curve"]:
                curve = SpendCurve(
                    willingness_to_pay=tensors["curve/willingness_to_pay"],
                    cost_usd=tensors["curve/cost_usd"],
                    dearest_usd=float(manifest["dearest_usd"]),
                )
            typical = Typical(
                prompt_tokens=float(manifest["typical_prompt_tokens"]),
                response_tokens={str(n): float(v) for n, v in manifest["typical_response_tokens"].items()},
            )
            return cls(
                quality={n: _sums(tensors, "quality", n, dimension) for n in manifest["candidates"]},
                length={n: _sums(tensors, "length", n, dimension) for n in manifest["candidates"]},
                typical=typical,
                curve=curve,
                network=_network(manifest.get("network"), tensors, dimension),
                drift={str(n): tensors[f"drift/{n}"] for n in manifest.get("drift", ())},
                position={str(n): int(v) for n, v in manifest["position"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateError(f"the state lacks a part or holds one that doesn't fit: {error!r}") from error


def _sums(tensors: Mapping[str, npt.NDArray[np.float64]], head: str, name: str, dimension: int) -> HeadStatistics:
    gram, moment = tensors[f"{head}/{name}/gram"], tensors[f"{head}/{name}/moment"]
    scalars = tensors[f"{head}/{name}/scalars"]
    if gram.shape != (dimension, dimension) or moment.shape != (dimension,) or scalars.shape != (2,):
        raise StateError(f"the {head} statistics of {name!r} have another shape than the {dimension} features need")
    return HeadStatistics(count=float(scalars[0]), gram=gram, moment=moment, square=float(scalars[1]))


def _network(
    names: Sequence[str] | None, tensors: Mapping[str, npt.NDArray[np.float64]], dimension: int
) -> NetworkState | None:
    if names is None:
        return None
    prefix = "network/"
    arrays = {key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)}
    network = NetworkState(names=tuple(names), arrays=arrays)
    network.check(dimension)
    return network
