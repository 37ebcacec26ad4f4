"""Behaviour 31 of a good LlamaIndex citizen: copies work, and no key is told."""

import copy
import json
import pickle
from pathlib import Path

from llamaindex_mixllm import MixLLM
from mixllm_engine import Candidate
from mixllm_engine.testing import ScriptedServer

from .behaviours import KEY
from .conftest import RecordedEvents
from .test_llm import told


def test_behaviour_31_copies_work_and_no_key_is_told(
    server: ScriptedServer, tmp_path: Path, recorded: RecordedEvents
) -> None:
    """Serialised, pickled and copied it answers as before; a key is sent to its candidate and shown to nobody."""
    own = Candidate(
        name="own",
        model="openai/cheap",
        api_base=server.base_url,
        api_key=KEY,
        input_usd_per_mtok=1,
        output_usd_per_mtok=2,
        params={"extra_headers": {"X-Key": KEY}},
    )
    llm = MixLLM(candidates=[own], store=tmp_path / "mixllm.db", budget="low", temperature=0.3)
    said = llm.complete("Hello?")
    assert server.requests[0].api_key == KEY
    data, pickled = json.loads(llm.to_json()), pickle.dumps(llm)
    copies = [MixLLM.from_dict(data), MixLLM.from_json(json.dumps(data)), pickle.loads(pickled), copy.deepcopy(llm)]
    for made in copies:
        assert made.to_dict() == llm.to_dict()
        assert made.complete("Hello?").text == "Good day to you"
        assert made.router.explain(told(said)["decision_id"]).decision.candidate == "own"  # the same store
    assert copies[-1].router is llm.router
    shown = [repr(llm), str(data), repr(said), *map(repr, recorded.events)]  # events have what to_payload returns
    shown += [str(event.model_dump()) for event in recorded.events]
    assert [text for text in shown if KEY in text] == []
    assert KEY.encode() not in pickled
    for made in copies[:3]:
        made.router.close()
    llm.router.close()
