"""Saving: what is wrong or finds no room leaves the old state; savers and loaders never meet halfway."""

from __future__ import annotations

import os
import threading
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixllm_engine import Candidate, StateError
from mixllm_engine.store.files import replacing
from tests.engine.safe_files.states import FILE, load, taught


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
