from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mixllm_engine.config import RouterConfig
from mixllm_engine.encoding.encoder import Encoder
from mixllm_engine.evaluation import studies
from mixllm_engine.evaluation.studies import Figure, Seeds, __main__
from mixllm_engine.evaluation.studies.continual import Mode, paper_modes
from mixllm_engine.evaluation.studies.drift import migration
from mixllm_engine.evaluation.studies.figures import collect, show, write
from mixllm_engine.evaluation.studies.shares import by_window, queries_until
from mixllm_engine.evaluation.studies.variants import changed, components, ready_for_drift
from mixllm_engine.evaluation.systems import lineup
from mixllm_engine.testing import HashingEncoder
from tests.evaluation import synthetic

SEEDS = Seeds(values=(1, 2))
DEFAULT = RouterConfig.default()


def by_key(figures: list[Figure]) -> dict[tuple[str, str, str], Figure]:
    found = {(figure.setting, figure.system, figure.measure): figure for figure in figures}
    assert len(found) == len(figures)
    assert all(math.isfinite(figure.mean) for figure in figures)
    return found


def test_offline_has_a_row_for_everybody_and_nobody_beats_the_oracle() -> None:
    found = by_key(studies.offline(synthetic.pool(200), synthetic.bench(), SEEDS, shares=(0.5,)))
    systems = {system for _, system, _ in found}
    assert {"default", "query-blind mix", "kNN 20", "random forest", "MLP", "oracle"} < systems
    for setting in ("50%", "50%, ridge costs"):
        areas = {s: found[setting, s, "area"].mean for s in systems if (setting, s, "area") in found}
        margin = areas.pop("default - best rival")
        oracle = areas.pop("oracle")
        assert oracle > max(areas.values())
        assert areas["default"] > areas["query-blind mix"]
        best = max(value for name, value in areas.items() if name != "default")
        assert margin == pytest.approx(areas["default"] - best)
    assert len(found["50%", "default", "cost@100"].values) == 2


def test_continual_compares_with_the_first_mode() -> None:
    modes = {
        "none": Mode(feedback="none"),
        "refined": Mode(feedback="refined"),
        "again": Mode(feedback="none"),
        "paper": Mode(feedback="binary", config=RouterConfig.paper()),
        "all labels": paper_modes()["all labels"],
    }
    made = studies.continual(
        synthetic.pool(200), synthetic.bench(), SEEDS, shares=(0.1,), modes=modes, grid=(1.0, 20.0)
    )
    found = by_key(made)
    assert found["10:90", "again", "equal cost %"].values == pytest.approx((0.0, 0.0), abs=1e-9)
    assert found["10:90", "again", "utility %"].mean == 0.0
    assert found["10:90", "refined", "utility"].mean > found["10:90", "none", "utility"].mean
    assert found["10:90", "all labels", "utility"].mean > found["10:90", "refined", "utility"].mean
    assert ("10:90", "none", "utility %") not in found
    assert 0.0 < found["10:90", "paper", "quality"].mean < 1.0


def test_drift_measures_moves_and_what_readiness_costs() -> None:
    configs = {"default": DEFAULT, "forgetting": changed(DEFAULT, learning__forgetting=0.95)}
    found = by_key(
        studies.drift(synthetic.pool(900), synthetic.bench(), Seeds(values=(3,)), configs=configs, grid=(10.0,))
    )
    assert found["stationary, lambda 10", "default", "quality %"].mean == 0.0
    halved = found["quality halved, lambda 10", "forgetting", "moved %"].mean
    assert halved > 50.0
    assert (
        found["price cut, lambda 10", "default", "after 300"].mean
        > found["price cut, lambda 10", "default", "before"].mean
    )
    assert found["price cut, lambda 10", "default", "in time %"].mean in (0.0, 100.0)


def test_newcomers_get_their_share() -> None:
    found = by_key(studies.adaptive(synthetic.pool(900), synthetic.bench(), Seeds(values=(3,)), grid=(10.0,)))
    final = found["one added, lambda 10", "default", "final"].mean
    assert abs(final - found["one added, lambda 10", "default", "informed"].mean) < 0.3
    assert found["one added, lambda 10", "default", "queries"].mean >= 50
    assert found["one added, lambda 10", "default", "of informed %"].mean > 60.0
    assert found["two added, lambda 10", "default", "rise %"].mean > 0.0


def test_unseen_domains_lose_and_learn() -> None:
    found = by_key(studies.ood(synthetic.pool(1500), synthetic.bench(), SEEDS, grid=(2.0, 20.0)))
    assert {setting for setting, _, _ in found} == {*synthetic.DOMAINS, "mean of domains"}
    loss = found["mean of domains", "default", "offline %"].mean
    assert loss < found["mean of domains", "default", "online %"].mean - 5.0


def test_an_ablation_has_offline_and_online_figures_for_every_configuration() -> None:
    configs = {"default": DEFAULT, "query-blind": changed(DEFAULT, features__domains="none", features__components=0)}
    found = by_key(studies.ablation(synthetic.pool(200), synthetic.bench(), Seeds(values=(1,)), configs=configs))
    assert found["80%", "default", "area"].mean > found["80%", "query-blind", "area"].mean
    assert found["30:70", "query-blind", "utility %"].mean < 0.0
    assert {figure.study for figure in found.values()} == {"ablation"}


def test_several_processes_measure_the_same() -> None:
    def run(jobs: int) -> list[Figure]:
        seeds = Seeds(values=(1, 2), jobs=jobs)
        made = studies.continual(
            synthetic.pool(60),
            synthetic.bench(),
            seeds,
            shares=(0.5,),
            modes={"none": Mode(feedback="none")},
            grid=(5.0,),
        )
        return made

    assert run(1) == run(2)


def test_configurations_have_one_thing_changed() -> None:
    for named in (components(), ready_for_drift()):
        assert named["default"] == DEFAULT
    with pytest.raises(ValueError, match="forgetting"):
        changed(DEFAULT, learning__forgetting=2.0)


def test_shares_and_moves_by_hand() -> None:
    taken = np.concatenate([np.ones(400), np.tile([1, 0], 50), np.zeros(300)]).astype(bool)
    assert by_window(taken[400:]) == [0.5, 0.5, 0, 0, 0, 0, 0, 0]
    # the latest 50 of the first 129 are 20 alternating ones, ten of them its own, and 30 of the others
    assert queries_until(taken[400:], 0.2, rising=False) == 129
    assert queries_until(taken, 0.0, rising=True) == 50
    assert queries_until(taken[:60], 0.5, rising=False) is None
    assert queries_until(taken[:10], 0.5, rising=True) is None
    moved = migration(taken, 400, 0.0)
    assert (moved["before"], moved["after 300"], moved["moved %"], moved["fallen %"]) == (1.0, 0.0, 100.0, 100.0)
    assert (moved["queries"], moved["in time %"]) == (129, 100.0)
    assert migration(taken, 400, 0.6)["queries"] == 50
    assert "moved %" not in migration(taken, 400, 0.97)
    assert migration(taken[:500], 400, 0.0)["queries"] == 100


def test_figures_are_printed_and_written(tmp_path: Path) -> None:
    measured = [
        {("80%", "default", "cost"): 10.0, ("80%", "default", "[detail"): 1.0},
        {("80%", "default", "cost"): 14.0},
    ]
    figures = collect("offline", "mine", measured)
    assert figures[0].mean == 12.0
    assert figures[0].standard_error == pytest.approx(2.0)
    console = Console(file=io.StringIO(), width=100)
    show(figures, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "12.0 ± 2.0" in printed
    assert "detail" not in printed
    write(figures, tmp_path / "out.json", seeds=[1, 2])
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written["seeds"] == [1, 2]
    assert written["figures"][1]["standard_error"] is None
    assert written["figures"][1]["values"] == [1.0]


@pytest.fixture
def weightless(monkeypatch: pytest.MonkeyPatch) -> None:
    make: Callable[[], Encoder] = HashingEncoder
    monkeypatch.setattr(__main__, "OnnxEncoder", make)


@pytest.mark.usefixtures("weightless")
def test_the_command_runs_a_study_on_files(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    data = synthetic.pool(80)
    pandas.DataFrame(data.table() | {"domain": data.domains}).to_parquet(tmp_path / "mine.parquet")
    console = Console(file=io.StringIO(), width=250)
    options = ["--seeds", "1", "--quiet", "--most-candidates", "3", "--json", str(tmp_path / "out.json")]
    assert __main__.main(["offline", str(tmp_path / "mine.parquet"), *options], console) == 0
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "mine: 80 queries, 3 candidates, 0 rows dropped" in printed
    assert "random forest" in printed
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["seeds"] == [100]


@pytest.mark.usefixtures("weightless")
def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=250)
    assert __main__.main(["drift", str(tmp_path / "none.txt"), "--quiet"], console) == 1
    assert "there is no file" in console.file.getvalue()  # type: ignore[attr-defined]


def test_everybody_plays_with_and_without_load() -> None:
    pool, seeds = synthetic.pool(60), Seeds(values=(1,))
    names = set(lineup(domains=True))
    for study, extra in ((studies.overall, set()), (studies.latency, {"late", "p95_s"})):
        found = by_key(study(pool, synthetic.bench(), seeds))
        measures = {"cost@97.25", "cost@99", "cost@100", "area", "AIQ", "quality", *extra}
        assert {(name, measure) for name in names for measure in measures} <= {key[1:] for key in found}
