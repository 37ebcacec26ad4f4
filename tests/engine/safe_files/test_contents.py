"""A well-formed state with something wrong in it is refused, and the error says what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixllm_engine import StateError
from tests.engine.safe_files.states import Manifest, Tensors, changed, load, put


def cell(name: str, place: tuple[int, ...], value: float) -> Callable[[Manifest, Tensors], object]:
    def change(_: Manifest, tensors: Tensors) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name][place] = value

    return change


def says(key: str, value: Any) -> Callable[[Manifest, Tensors], object]:
    return lambda manifest, _: manifest.update({key: value})


def array(name: str, value: Any) -> Callable[[Manifest, Tensors], object]:
    return lambda _, tensors: tensors.update({name: np.asarray(value)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (says("format", "zip"), "something else than a MixLLM state"),
        (says("version", 2), "has version 2, this MixLLM reads version 1"),
        (says("version", None), "has version None"),
        (says("surprise", 1), "parts that are not known: 'surprise'"),
        (says("encoder", "another"), "learned with another encoder"),
        (says("config", {"decision": 5}), "one that is not allowed"),
        (
            says("config", {"features": {"domains": "none", "components": 4, "surface": True}}),
            "another shape|doesn't fit",
        ),
        (says("pool", []), "at least one candidate"),
        (says("pool", [{"name": "a"}]), "one that is not allowed"),
        (says("pool", [{"name": 5, "model": "m"}]), "name must be plain text, got 5"),
        (says("pool", [{"name": "a", "model": "m", "api_key": "k"}]), "a state holds no keys"),
        (says("pool", [{"name": "a", "model": "m", "input_usd_per_mtok": "x"}]), "must be a number"),
        (says("candidates", ["nobody"]), "doesn't fit"),
        (says("candidates", 5), "doesn't fit"),
        (says("typical_prompt_tokens", -1.0), "finite and at least 0"),
        (says("typical_prompt_tokens", float("nan")), "the number NaN is not finite|could not convert|not finite"),
        (says("typical_prompt_tokens", 10**400), "doesn't fit"),
        (says("typical_response_tokens", {"cheap": -1}), "finite and at least 0"),
        (says("dearest_usd", -1.0), "finite and at least 0"),
        (says("taught", {"cheap": "many"}), "doesn't fit"),
        (says("position", {"x/feedback": 2**63}), "is no position of a log"),
        (says("position", {"x/feedback": -1}), "is no position of a log"),
        (says("position", {"x/feedback": True}), "is no position of a log"),
        (says("drift", []), "arrays that nothing in it speaks of: drift/"),
        (says("network", None), "arrays that nothing in it speaks of: network/"),
        (says("network", ["cheap"]), "feedback network has other shapes"),
        (says("neural", {}), "arrays that nothing in it speaks of: neural/"),
        (
            says("onboarded", {"new": {"prior": True, "labelled": True, "response_tokens": 1.0, "weight": 2}}),
            r"\[0, 1\]",
        ),
        (lambda manifest, _: manifest.pop("encoder"), "lacks a part"),
        (lambda manifest, _: manifest.pop("position"), "lacks a part"),
        (lambda _, tensors: tensors.pop("quality/cheap/gram"), "lacks a part"),
        (lambda _, tensors: tensors.pop("drift/cheap"), "lacks a part"),
        (array("surprise", [1.0]), "arrays that nothing in it speaks of: surprise"),
        (array("../../etc/passwd", [1.0]), "arrays that nothing in it speaks of"),
        (array("quality/cheap/gram", np.eye(4, dtype=np.float32)), "not float64"),
        (array("quality/cheap/gram", np.eye(5)), "another shape"),
        (array("quality/cheap/gram", np.zeros((4, 0))), "another shape"),
        (array("drift/cheap", np.zeros(7)), "don't fit"),
        (array("drift/cheap", [-20.0, 0, 0, 0, 0, 0, 0, 0]), "can't be right"),
        (array("drift/cheap", [1.0, 0, 5, 0, 0, 0, 0, 0]), "can't be right"),
        (array("curve/cost_usd", [1.0]), "spend curve of the state has shapes"),
        (array("prior/new/quality", [1.0]), r"has shape \(1,\)"),
        (cell("curve/cost_usd", (0,), 1e9), "does not rise"),
        (cell("curve/willingness_to_pay", (0,), -1.0), "does not rise"),
        (cell("quality/cheap/moment", (0,), np.nan), "not float64, finite"),
        (cell("quality/cheap/moment", (0,), np.inf), "not float64, finite"),
        (cell("quality/cheap/moment", (0,), 1e300), "not float64, finite and within 1e"),
        (cell("quality/cheap/gram", (0, 0), -2.0), "no sums over observations"),
        (cell("quality/cheap/gram", (0, 1), 9.0), "no sums over observations"),
        (cell("length/dear/scalars", (0,), -1.0), "no sums over observations"),
        (cell("labelled/new/quality/gram", (0, 0), -2.0), "no sums over observations"),
        (cell("neural/quality/cheap/count", (0,), -1.0), "neural head"),
    ],
)
def test_a_well_formed_file_with_something_wrong_in_it_is_refused(
    change: Callable[[Manifest, Tensors], object], message: str, whole: bytes, tmp_path: Path
) -> None:
    with pytest.raises(StateError, match=message):
        load(put(tmp_path, changed(whole, change)))
