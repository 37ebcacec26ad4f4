"""Components on and off: what each is worth offline, and on a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mixllm_engine.config import RouterConfig
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.studies.continual import Mode, continual
from mixllm_engine.evaluation.studies.figures import Figure
from mixllm_engine.evaluation.studies.offline import offline
from mixllm_engine.evaluation.studies.seeds import Seeds
from mixllm_engine.evaluation.studies.variants import components
from mixllm_engine.evaluation.workbench import Workbench

SHARES = (0.8, 0.3, 0.05)
ONLINE_SHARES = (0.3,)
_KEPT = ("cost@97.25", "cost@100", "area", "equal cost %", "quality %", "utility", "utility %")


def ablation(
    data: FullFeedback, bench: Workbench, seeds: Seeds, *, configs: Mapping[str, RouterConfig] | None = None
) -> list[Figure]:
    """Measure each configuration as in `offline`, and on a stream with binary feedback as in `continual`.

    Gains in percent are over the first configuration, with the same feedback. What only acts in decisions (uncertainty,
    penalty) or online (f_df, forgetting) leaves the offline figures as they are.

    Parameters
    ----------
    data : FullFeedback
        The pool.
    bench : Workbench
        Makes the routers.
    seeds : Seeds
        Splits and streams.
    configs : mapping of str to RouterConfig, optional
        `variants.components` by default.
    """
    named = dict(configs or components())
    modes = {name: Mode(feedback="binary", config=config) for name, config in named.items()}
    figures = [
        *offline(data, bench, seeds, shares=SHARES, configs=named, rivals=False),
        *continual(data, bench, seeds, shares=ONLINE_SHARES, modes=modes),
    ]
    return [replace(figure, study="ablation") for figure in figures if figure.measure in _KEPT]
