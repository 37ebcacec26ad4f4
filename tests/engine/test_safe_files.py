"""Saved state: what is damaged, foreign, exchanged or endless is refused; savers and loaders never meet halfway."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from mixllm_engine import Candidate, EncoderError, Outcome, Router, StateError
from mixllm_engine.config import FeatureConfig, LearningConfig, PredictionConfig, RouterConfig
from mixllm_engine.encoding.features import stored_map
from mixllm_engine.loading import read_file
from mixllm_engine.saving import unpack
from mixllm_engine.store import open_store, snapshot
from mixllm_engine.store.files import replacing
from mixllm_engine.testing import HashingEncoder, tiny_pool, tiny_router

SMALL = RouterConfig(features=FeatureConfig(domains="none", components=3))
FILE = "state.safetensors"

Manifest = dict[str, Any]
Tensors = dict[str, Any]


def taught(config: RouterConfig = SMALL, labels: int = 4, **settings: Any) -> Router:
    """Return a router that has learned all there is to learn: by a table, by feedback, and when one joined."""
    router = tiny_router(config=config, **settings)
    table = {
        "prompt": ["one", "two", "three", "four"],
        "cheap|quality": [0.0, 1.0, 0.0, 1.0],
        "dear|quality": [1.0, 1.0, 1.0, 0.5],
        "cheap|cost_usd": [0.1] * 4,
        "cheap|response_tokens": [5, 6, 7, 8],
    }
    router.fit(table, progress=False)
    joined = dataclasses.replace(tiny_pool(names=["new"])[0])
    router.add_candidate(joined, like="dear", labelled={"prompt": ["five"], "quality": [1.0], "response_tokens": [9]})
    for step in range(labels):
        decision = router.decide(f"question {step}", force=("cheap", "dear")[step % 2])
        router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=10 + step))
        router.feedback(decision, 1.0)
    return router


EVERYTHING = RouterConfig(
    features=SMALL.features,
    prediction=PredictionConfig(heads="neural"),
    learning=LearningConfig(binary="both"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the state of a router that has every part that a state can have."""
    folder = tmp_path_factory.mktemp("whole")
    with taught(EVERYTHING) as router:
        router.save(folder)
    return (folder / FILE).read_bytes()


def load(folder: Path, **settings: Any) -> Router:
    return Router.load(folder, **{"encoder": HashingEncoder(), **settings})


def put(folder: Path, data: bytes) -> Path:
    (folder / FILE).write_bytes(data)
    return folder


def parts(data: bytes) -> tuple[Manifest, Tensors]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["manifest"]), dict(load_tensors(data))


def changed(data: bytes, change: Callable[[Manifest, Tensors], object]) -> bytes:
    """Return a well-formed file whose content was changed."""
    manifest, tensors = parts(data)
    change(manifest, tensors)
    return save_tensors(tensors, metadata={"manifest": json.dumps(manifest)})


def raw(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


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


class Command:
    """What a pickle would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_in_disguise_is_refused_and_never_run(tmp_path: Path) -> None:
    bad = pickle.dumps(Command(tmp_path / "ran"))
    disguised = [bad, raw(bad), raw({"__metadata__": {"manifest": bad.decode("latin-1")}}), b"PK\x03\x04" + bad]
    entry = {"dtype": "F64", "shape": [len(bad) // 8], "data_offsets": [0, len(bad) // 8 * 8]}
    disguised.append(raw({"quality/cheap/gram": entry}, bad))
    for data in disguised:
        with pytest.raises(StateError, match="not? (a )?MixLLM state|something else"):
            load(put(tmp_path, data))
    assert not (tmp_path / "ran").exists()


def metadata(manifest: str) -> dict[str, Any]:
    return {"__metadata__": {"manifest": manifest}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 8,
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 99 * 2**20) + b"{}",
        raw({"a": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}),
        raw({"a": {"dtype": "F64", "shape": [2**62, 4], "data_offsets": [0, 8]}}, b"\0" * 8),
        raw({**metadata("{}"), "a": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 8]}}, b"\0" * 8),
        raw({"a": {"dtype": "F64", "shape": [1], "data_offsets": [-8, 0]}}),
        raw({"a": {"dtype": "F64", "shape": [0] * 100_000, "data_offsets": [0, 0]}}),
        raw(b"[" * 100_000),
        raw(metadata("[" * 100_000)),
        raw(metadata("9" * 100_000)),
        raw(metadata('{"format": "mixllm-state", "version": 1e999}')),
        raw({"__metadata__": 5}),
        raw({"__metadata__": {"manifest": 5}}),
        raw([]),
    ],
    ids=range(17),
)
def test_headers_that_lie_are_refused_in_little_memory(data: bytes, tmp_path: Path) -> None:
    put(tmp_path, data)
    tracemalloc.start()
    try:
        with pytest.raises(StateError, match="state"):
            load(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def test_a_state_that_was_cut_anywhere_is_refused(whole: bytes, tmp_path: Path) -> None:
    for length in range(0, len(whole), 997):
        with pytest.raises(StateError, match="not a MixLLM state"):
            load(put(tmp_path, whole[:length]))
    with pytest.raises(StateError, match="not a MixLLM state"):
        load(put(tmp_path, whole + b"more"))


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / FILE).open("wb") as file:
        file.truncate(3 * 10**9)  # a hole: it takes no place on the disk
    tracemalloc.start()
    try:
        with pytest.raises(StateError, match="3000000000 bytes, more than the 1000000000 that are allowed"):
            load(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_what_is_no_file_is_refused_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(StateError, match="is no regular file"):
        load(tmp_path)
    (tmp_path / "endless").mkdir()
    (tmp_path / "endless" / FILE).symlink_to("/dev/zero")
    with pytest.raises(StateError, match="is no regular file"):
        load(tmp_path / "endless")
    (tmp_path / "folder" / FILE).mkdir(parents=True)
    with pytest.raises(StateError, match="no regular file|directory"):
        load(tmp_path / "folder")


def test_names_that_no_system_has_are_one_clear_error(whole: bytes) -> None:
    with pytest.raises(StateError, match="null"):
        Router.load("a\0b")
    with pytest.raises(StateError, match="null"):
        snapshot.write("a\0b", whole)
    with pytest.raises(OSError, match="null"):
        read_file("a\0b", most_bytes=1)


# -- exchanged files -------------------------------------------------------------------------------------------------


def test_a_state_of_another_encoder_under_the_same_name_is_refused(tmp_path: Path) -> None:
    for size in (64, 32):
        with taught(encoder=HashingEncoder(size)) as router:
            router.save(tmp_path / str(size))
    os.rename(tmp_path / "64" / FILE, tmp_path / "spare")
    os.rename(tmp_path / "32" / FILE, tmp_path / "64" / FILE)
    os.rename(tmp_path / "spare", tmp_path / "32" / FILE)
    for size in (64, 32):
        with pytest.raises(StateError, match="learned with another encoder"):
            Router.load(tmp_path / str(size), encoder=HashingEncoder(size))


def test_a_state_of_quite_other_candidates_is_refused(tmp_path: Path) -> None:
    with taught() as router:
        router.save(tmp_path)
    mine = tiny_pool(names=["mine", "yours"])
    with pytest.raises(
        StateError, match="is of the candidates 'cheap', 'dear', 'new', none of which .*'mine', 'yours'"
    ):
        load(tmp_path, candidates=mine)
    with load(tmp_path, candidates=[*mine, *tiny_pool()]) as router:  # a pool that changed is none of another router
        assert router.stats()["candidates"]["cheap"]["labels"] > 0


def test_a_store_that_was_opened_for_a_state_that_is_refused_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taught() as router:
        router.save(tmp_path)
    closed: list[Router] = []
    monkeypatch.setattr(Router, "close", lambda router: closed.append(router))
    with pytest.raises(StateError, match="another router's"):
        load(tmp_path, candidates=tiny_pool(names=["mine"]), store=tmp_path / "log.db")
    assert len(closed) == 1
    closed[0]._store.close()
    store = open_store(None)
    with pytest.raises(StateError, match="another router's"):
        load(tmp_path, candidates=tiny_pool(names=["mine"]), store=store)
    assert len(closed) == 1  # who gave a store goes on with it


@pytest.mark.parametrize(
    "other",
    [
        FeatureConfig(domains="clusters", clusters=3, components=0),
        FeatureConfig(domains="clusters", clusters=2, components=1),
    ],
)
def test_states_over_other_features_of_the_same_length_are_not_mixed(other: FeatureConfig) -> None:
    store = open_store(None)
    with taught(store=store) as router:
        assert router._contexts.features.dimension == 7
        with pytest.raises(StateError, match="learned over the features .*'domains': 'none'.*'domains': 'clusters'"):
            taught(RouterConfig(features=other), store=store)
        # What no map depends on is no difference.
        tiny_router(store=store, config=RouterConfig(features=FeatureConfig(domains="none", components=3, clusters=5)))
        same = FeatureConfig(domains="none", components=3, clusters=5)
        assert tiny_router(store=store, config=RouterConfig(features=same)).stats()["feedback_applied"] == 4


# -- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{"stop": object()}, {"top_p": float("nan")}])
def test_what_would_not_load_again_is_not_saved(params: dict[str, Any], tmp_path: Path) -> None:
    with taught() as router:
        router.save(tmp_path)
        before = (tmp_path / FILE).read_bytes()
        router.add_candidate(
            Candidate(name="odd", model="m", params=params, input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
        )
        with pytest.raises(StateError, match="can't be saved: .*params of candidates must be plain"):
            router.save(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_numbers_that_are_not_finite_don_t_replace_those_that_are(tmp_path: Path) -> None:
    with taught() as router:
        router.save(tmp_path)
        router._learner.predictor.quality.moment[0, 0] = np.nan
        with pytest.raises(StateError, match="'quality/cheap/moment' of the state is not float64, finite"):
            router.save(tmp_path)
    load(tmp_path).close()


def test_a_folder_that_can_t_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with (
        taught() as router,
        pytest.raises(StateError, match="can't be written to .*file.*(File exists|Not a directory)"),
    ):
        router.save(tmp_path / "file")
    with taught() as router, pytest.raises(StateError, match="can't be written to"):
        router.save(tmp_path / "file" / "state")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with taught() as router:
        router.save(tmp_path)
        before = (tmp_path / FILE).read_bytes()

        def full(**_: Any) -> tuple[int, str]:
            name = tmp_path / f"{FILE}abcdefgh.tmp"
            name.touch()
            return os.open("/dev/full", os.O_WRONLY), str(name)

        monkeypatch.setattr("tempfile.mkstemp", full)
        with pytest.raises(StateError, match="No space left on device"):
            router.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).read_bytes() == before


def test_links_lead_where_a_person_expects(tmp_path: Path) -> None:
    (tmp_path / "release-1").mkdir()
    (tmp_path / "current").symlink_to("release-1", target_is_directory=True)
    with taught() as router:
        router.save(tmp_path / "current")  # through the link to the folder
        assert (tmp_path / "current").is_symlink() and (tmp_path / "release-1" / FILE).is_file()
        (tmp_path / "linked").mkdir()
        (tmp_path / "linked" / FILE).symlink_to(tmp_path / "release-1" / FILE)
        load(tmp_path / "linked").close()  # a file that is a link, as volumes of clusters have them, is read
        old = (tmp_path / "release-1" / FILE).read_bytes()
        router.feedback(router.decide("more"), 0.0)
        router.save(tmp_path / "linked")  # but never written through: what it led to is somebody else's
    assert not (tmp_path / "linked" / FILE).is_symlink()
    assert (tmp_path / "release-1" / FILE).read_bytes() == old
    (tmp_path / "linked" / FILE).unlink()
    (tmp_path / "linked" / FILE).symlink_to(tmp_path / "nowhere")
    with pytest.raises(StateError, match="No such file"):
        load(tmp_path / "linked")


def test_only_the_owner_can_read_a_state_and_folders_are_made(tmp_path: Path) -> None:
    with taught() as router:
        router.save(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c" / FILE).stat().st_mode & 0o077 == 0


def test_what_killed_savers_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    old, young, other, alike = (tmp_path / name for name in (
        f"{FILE}abcd_123.tmp", f"{FILE}abcd_124.tmp", "log.jsonlabcd_123.tmp", f"{FILE}.mine.tmp"
    ))  # fmt: skip
    for path in (old, young, other, alike):
        path.write_bytes(b"half")
    for path in (old, other, alike):
        os.utime(path, (time.time() - 4000.0,) * 2)
    with replacing(tmp_path / FILE) as file:
        file.write(b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        p.name for p in (young, other, alike, tmp_path / FILE)
    )


# -- several at once -------------------------------------------------------------------------------------------------

_SAVES = 25


def _save_often(folder: Path, labels: int) -> None:
    with taught(labels=labels) as router:
        for _ in range(_SAVES):
            router.save(folder)


def test_every_load_gets_a_whole_state_whoever_saves_meanwhile(tmp_path: Path) -> None:
    """Each saver's state has a number of labels of its own; a mixture would have another, or be damaged."""
    _save_often(tmp_path, 0)
    workers = get_context("forkserver")
    processes = [workers.Process(target=_save_often, args=(tmp_path, labels)) for labels in (1, 2, 3)]
    threads = [threading.Thread(target=_save_often, args=(tmp_path, labels)) for labels in (4, 5)]
    for process in processes:
        process.start()
    for thread in threads:
        thread.start()
    seen = set()
    loads = 0
    while any(process.is_alive() for process in processes) or any(thread.is_alive() for thread in threads):
        with load(tmp_path) as router:
            outcomes = sum(sums.count for sums in router._learner.learned().length.values())
            labels = sum(sums.count for sums in router._learner.learned().quality.values())
        assert labels - outcomes == 4.0  # of the table's 9 labels 5 came with a length
        seen.add(labels)
        loads += 1
    for thread in threads:
        thread.join()
    for process in processes:
        process.join()
    assert all(process.exitcode == 0 for process in processes)
    assert seen <= {9.0 + labels for labels in range(6)} and len(seen) > 1 and loads > 10
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


# -- feature maps ----------------------------------------------------------------------------------------------------


def test_a_damaged_feature_map_is_refused(tmp_path: Path) -> None:
    encoder, path = HashingEncoder(8), tmp_path / "general_map.safetensors"
    arrays = {"mean": np.zeros(8), "components": np.zeros((8, 2)), "domains": np.zeros((3, 8)), "bias": np.zeros(3)}

    def store(**other: Any) -> None:
        path.write_bytes(save_tensors({**arrays, **other}, metadata={"fingerprint": encoder.fingerprint}))

    store()
    found = stored_map(tmp_path, encoder)
    assert found is not None and found.dimension == 6
    huge = np.full((3, 8), 1e160)
    for other in (
        {"bias": np.zeros(4)},
        {"mean": np.full(8, np.nan)},
        {"components": np.zeros((7, 2))},
        {"domains": huge},
    ):
        store(**other)
        with pytest.raises(EncoderError, match="arrays that don't fit"):
            stored_map(tmp_path, encoder)
    store(more=np.zeros(1))
    with pytest.raises(EncoderError, match="missing or damaged"):
        stored_map(tmp_path, encoder)
    for data in (b"", pickle.dumps(arrays), save_tensors(arrays)):
        path.write_bytes(data)
        with pytest.raises(EncoderError, match="missing or damaged"):
            stored_map(tmp_path, encoder)
    path.unlink()
    with pytest.raises(EncoderError, match="missing or damaged"):
        stored_map(tmp_path, encoder)
