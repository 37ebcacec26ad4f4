"""What was saved comes back with every part, and so does what an older version saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixllm_engine import StateError
from mixllm_engine.config import RouterConfig
from mixllm_engine.saving import unpack
from tests.engine.safe_files.states import FILE, SMALL, Manifest, Tensors, changed, load, parts, put, taught


def test_a_state_with_every_part_comes_back(whole: bytes, tmp_path: Path) -> None:
    with load(put(tmp_path, whole)) as router:
        router.save(tmp_path / "again")
    assert (tmp_path / "again" / FILE).read_bytes() == whole
    manifest, tensors = parts(whole)
    assert manifest["curve"] and manifest["network"] and manifest["drift"] and manifest["onboarded"]["new"]["prior"]
    assert any(name.startswith("neural/quality/") for name in tensors)


@pytest.mark.parametrize(("advantage", "margin"), [(2.0, 1.5), (0.0, 0.0)])
def test_a_state_of_before_the_leader_had_a_margin_is_read(tmp_path: Path, advantage: float, margin: float) -> None:
    with taught(SMALL) as router:
        router.save(tmp_path)

    def renamed(manifest: Manifest, _: Tensors) -> None:
        del manifest["config"]["decision"]["leader_margin"]
        manifest["config"]["decision"]["leader_advantage"] = advantage

    with load(put(tmp_path, changed((tmp_path / FILE).read_bytes(), renamed))) as again:
        assert again.config.decision.leader_margin == margin


def test_a_state_of_before_there_was_a_surface_goes_on_without_one(tmp_path: Path) -> None:
    plain = SMALL.features.model_copy(update={"surface": False, "weights": "even"})
    with taught(RouterConfig(features=plain)) as router:
        router.save(tmp_path)
        known = router.predict(["question 3"]).quality

    def unnamed(manifest: Manifest, _: Tensors) -> None:
        for name in ("surface", "weights"):
            del manifest["config"]["features"][name]

    old = changed((tmp_path / FILE).read_bytes(), unnamed)
    with load(put(tmp_path, old)) as again:
        assert again.config.features == plain
        assert again.predict(["question 3"]).quality == pytest.approx(known, abs=1e-9)
    with taught() as new, pytest.raises(StateError, match="'surface': False.* this router has .*'surface': True"):
        unpack(old).teach(new._learner)
