"""What a router has learned, as sums: the result of a fit, of a fold over the log, or of both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mixllm_engine.decision.budget import SpendCurve
from mixllm_engine.errors import StateError
from mixllm_engine.learning import onboarding
from mixllm_engine.learning._sums import from_arrays, to_arrays
from mixllm_engine.learning.drift import checked_numbers
from mixllm_engine.learning.feedback_network import NetworkState
from mixllm_engine.learning.onboarding import Onboarding
from mixllm_engine.prediction.heads import HeadStatistics
from mixllm_engine.prediction.mlp import Network, Networks
from mixllm_engine.prediction.priors import TYPICAL_PROMPT_TOKENS, TYPICAL_RESPONSE_TOKENS

_LAST_POSITION: Final = 2**63 - 1  # of a database's counter


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
        Sums of each candidate's two heads, those over labelled prompts included.
    taught : mapping of str to float
        How many labels of each candidate came from a table, as far as they are remembered; older states have none.
    onboarded : mapping of str to Onboarding
        What each candidate that joined later was given; older states have none.
    neural : mapping of str to mapping of str to Network
        The networks of the neural heads, by target and candidate; older states have none.
    typical : Typical
        A typical call.
    curve : SpendCurve, optional
        Mean cost over lambda, which calibrates the budgets.
    network : NetworkState, optional
        What the policy learned from feedback; older states have none.
    drift : mapping of str to array
        Where the drift test of each candidate stands; older states have none.
    dropped : mapping of str to pair of HeadStatistics
        Sums of the two heads over rows of the log that are gone, each label at its full weight: they are part of
        `quality` and `length`, and are counted anew when a table is learned; older states have none.
    position : mapping of str to int
        How far the log was read, by the name of the log: ``"<identity>/feedback"`` and ``"<identity>/outcomes"``.
    """

    quality: Mapping[str, HeadStatistics] = field(default_factory=dict)
    length: Mapping[str, HeadStatistics] = field(default_factory=dict)
    taught: Mapping[str, float] = field(default_factory=dict)
    onboarded: Mapping[str, Onboarding] = field(default_factory=dict)
    neural: Networks = field(default_factory=dict)
    typical: Typical = field(default_factory=Typical)
    curve: SpendCurve | None = None
    network: NetworkState | None = None
    drift: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    dropped: Mapping[str, tuple[HeadStatistics, HeadStatistics]] = field(default_factory=dict)
    position: Mapping[str, int] = field(default_factory=dict)

    def with_onboarded(self, name: str, given: Onboarding) -> Learned:
        """Return this with what a candidate is given when it joins; what it was given before is taken back."""
        before = self.onboarded.get(name, Onboarding())
        quality, length, tokens = dict(self.quality), dict(self.length), dict(self.typical.response_tokens)
        for one, other in given.changes(before):
            quality[name] = quality[name] + one if name in quality else one
            length[name] = length[name] + other if name in length else other
        if given.response_tokens is not None:
            tokens[name] = given.response_tokens
        return replace(
            self,
            quality=quality,
            length=length,
            typical=replace(self.typical, response_tokens=tokens),
            onboarded={**self.onboarded, name: before.updated(given)},
        )

    def with_networks(self, name: str, networks: Networks) -> Learned:
        """Return this with one candidate's networks taken from others, as far as they have any."""
        neural = {target: dict(by_name) for target, by_name in self.neural.items()}
        for target, by_name in networks.items():
            if name in by_name:
                neural.setdefault(target, {})[name] = by_name[name]
        return replace(self, neural=neural)

    def manifest(self) -> dict[str, Any]:
        """Return what is not an array."""
        return {
            "candidates": sorted({*self.quality, *self.length}),
            "typical_prompt_tokens": self.typical.prompt_tokens,
            "typical_response_tokens": dict(self.typical.response_tokens),
            "curve": self.curve is not None,
            "dearest_usd": self.curve.dearest_usd if self.curve else 0.0,
            "taught": dict(self.taught),
            "onboarded": onboarding.manifest(self.onboarded),
            "position": dict(self.position),
            "network": list(self.network.names) if self.network else None,
            "drift": sorted(self.drift),
            "neural": {target: sorted(networks) for target, networks in self.neural.items()},
            "dropped": sorted(self.dropped),
        }

    def tensors(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the arrays."""
        arrays: dict[str, npt.NDArray[np.float64]] = {}
        for head, statistics in (("quality", self.quality), ("length", self.length)):
            for name, sums in statistics.items():
                arrays |= to_arrays(sums, f"{head}/{name}")
        for name, (quality, length) in self.dropped.items():
            arrays |= to_arrays(quality, f"dropped/quality/{name}") | to_arrays(length, f"dropped/length/{name}")
        arrays |= onboarding.tensors(self.onboarded)
        if self.curve:
            arrays["curve/willingness_to_pay"] = self.curve.willingness_to_pay
            arrays["curve/cost_usd"] = self.curve.cost_usd
        if self.network:
            arrays |= {f"network/{name}": array for name, array in self.network.arrays.items()}
        arrays |= {f"drift/{name}": array for name, array in self.drift.items()}
        for target, networks in self.neural.items():
            for name, network in networks.items():
                arrays[f"neural/{target}/{name}/hidden"] = network.hidden
                arrays[f"neural/{target}/{name}/output"] = network.output
                arrays[f"neural/{target}/{name}/count"] = np.array([network.count])
        return arrays

    @classmethod
    def restore(
        cls, manifest: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[np.float64]], dimension: int
    ) -> Learned:
        """Rebuild from manifest and arrays, or raise `StateError` where something is missing or doesn't fit."""
        try:
            typical = Typical(
                prompt_tokens=_amount(manifest["typical_prompt_tokens"]),
                response_tokens={str(n): _amount(v) for n, v in manifest["typical_response_tokens"].items()},
            )
            learned = cls(
                quality={n: from_arrays(tensors, f"quality/{n}", dimension) for n in manifest["candidates"]},
                length={n: from_arrays(tensors, f"length/{n}", dimension) for n in manifest["candidates"]},
                taught={str(n): _amount(v) for n, v in manifest.get("taught", {}).items()},
                onboarded=onboarding.restore(manifest.get("onboarded", {}), tensors, dimension),
                typical=typical,
                curve=_curve(manifest, tensors),
                network=_network(manifest.get("network"), tensors, dimension),
                drift={str(n): checked_numbers(tensors[f"drift/{n}"]) for n in manifest.get("drift", ())},
                neural=_neural(manifest.get("neural", {}), tensors, dimension),
                dropped={
                    n: (
                        from_arrays(tensors, f"dropped/quality/{n}", dimension),
                        from_arrays(tensors, f"dropped/length/{n}", dimension),
                    )
                    for n in manifest.get("dropped", ())
                },
                position={str(n): _position(v) for n, v in manifest["position"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise StateError(f"the state lacks a part or holds one that doesn't fit: {error!r}") from error
        if unknown := tensors.keys() - learned.tensors().keys():
            raise StateError(f"the state holds arrays that nothing in it speaks of: {', '.join(sorted(unknown)[:5])}")
        return learned


def _amount(value: Any) -> float:
    """Return a finite number of at least 0, or raise `ValueError`."""
    number = float(value)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{value!r} must be finite and at least 0")
    return number


def _position(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _LAST_POSITION:
        raise ValueError(f"{value!r} is no position of a log")
    return value


def _curve(manifest: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[np.float64]]) -> SpendCurve | None:
    if not manifest["curve"]:
        return None
    willingness, cost_usd = tensors["curve/willingness_to_pay"], tensors["curve/cost_usd"]
    if willingness.ndim != 1 or not willingness.size or cost_usd.shape != willingness.shape:
        raise StateError(f"the spend curve of the state has shapes {willingness.shape} and {cost_usd.shape}")
    if not (willingness > 0).all() or not all((np.diff(values) >= 0).all() for values in (willingness, cost_usd)):
        raise StateError("the spend curve of the state does not rise; the state is damaged")
    return SpendCurve(willingness_to_pay=willingness, cost_usd=cost_usd, dearest_usd=_amount(manifest["dearest_usd"]))


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


def _neural(
    stored: Mapping[str, Sequence[str]], tensors: Mapping[str, npt.NDArray[np.float64]], dimension: int
) -> Networks:
    neural: dict[str, dict[str, Network]] = {}
    for target, names in stored.items():
        neural[target] = {}
        for name in names:
            part = {key: tensors[f"neural/{target}/{name}/{key}"] for key in ("hidden", "output", "count")}
            network = Network(hidden=part["hidden"], output=part["output"], count=part["count"].item())
            network.check(dimension)
            neural[target][name] = network
    return neural
