"""Whatever is given, the error is ours, and it comes soon: loaders, references, tables, messages, queries.

Takes about a minute in all, or as many seconds as ``MIXLLM_TEST_FUZZ_S`` says, shared by the targets. Each target draws
examples, batch by batch with a new seed, until its share is used up.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.engine.fuzz.encoders import encoder_targets
from tests.engine.fuzz.feedback import feedback_targets
from tests.engine.fuzz.messages import langchain_targets, llamaindex_targets, message_targets
from tests.engine.fuzz.people import people_targets
from tests.engine.fuzz.queries import query_targets
from tests.engine.fuzz.routers import Property
from tests.engine.fuzz.states import log_targets, state_targets
from tests.engine.fuzz.tables import table_file_targets, table_targets

TOTAL_S = float(os.environ.get("MIXLLM_TEST_FUZZ_S", "60"))
SLOWEST_S = 20.0
MOST_MORE_MIB = 600.0

GROUPS = [
    state_targets,
    log_targets,
    people_targets,
    encoder_targets,
    feedback_targets,
    table_targets,
    table_file_targets,
    message_targets,
    langchain_targets,
    llamaindex_targets,
    query_targets,
]
_WEIGHT = {state_targets: 3, people_targets: 2, encoder_targets: 2, feedback_targets: 3, table_targets: 2}
_TARGETS = sum(_WEIGHT.get(group, 1) for group in GROUPS)


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_nothing_but_our_own_errors_comes_out(
    group: Callable[[Path], dict[str, tuple[st.SearchStrategy[Any], Property]]], tmp_path: Path
) -> None:
    targets = group(tmp_path)
    assert len(targets) == _WEIGHT.get(group, 1)
    for name, (strategy, target) in targets.items():
        fuzz(name, strategy, target, TOTAL_S / _TARGETS)


def fuzz(name: str, strategy: st.SearchStrategy[Any], target: Property, share_s: float) -> None:
    """Draw examples until the time is over, and say how many there were."""
    before_kib, start, examples, batches = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic(), 0, 0

    def counted(value: Any) -> None:
        nonlocal examples
        examples += 1
        target(value)

    while time.monotonic() - start < share_s:
        run = settings(
            max_examples=20 if share_s < 10 else 200,
            deadline=SLOWEST_S * 1000.0,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )(given(strategy)(counted))
        seed(batches)(run)()
        batches += 1
    more_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024.0
    print(f"{name}: {examples} examples in {time.monotonic() - start:.0f} s")  # noqa: T201
    assert examples > 10
    assert more_mib < MOST_MORE_MIB, f"{name} took {more_mib:.0f} MiB more than before"
