"""The handler that `proxy_config.yaml` names: a router as the models of LiteLLM's proxy, and a way for feedback.

The id of every answer is ``mixllm-<decision id>``. ``POST /mixllm/feedback {"id": ..., "reward": ...}``, with the key
of the proxy, teaches the router how good that answer was.

MIXLLM_STORE says where decisions and feedback are kept (in memory by default); ``mixllm feedback ID REWARD`` reaches
the same store from the command line.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Depends, HTTPException
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth
from litellm.proxy.proxy_server import app
from pydantic import BaseModel

from examples.offline import candidates
from litellm_mixllm import MixLLMProvider
from mixllm_engine import FeedbackError, Router, UnknownDecisionError

_while_serving = ExitStack()  # the scripted models of this example run as long as the proxy does
router = Router(_while_serving.enter_context(candidates()), store=os.environ.get("MIXLLM_STORE"), seed=0)
handler = MixLLMProvider({"auto": router})

routes = APIRouter()


class Thumb(BaseModel):
    id: str
    reward: float
    key: str = "user"


@routes.post("/mixllm/feedback", dependencies=[Depends(user_api_key_auth)])  # type: ignore[untyped-decorator,unused-ignore]
def feedback(thumb: Thumb) -> dict[str, Any]:
    """Teach the router how good an answer was."""
    try:
        receipt = router.feedback(thumb.id, thumb.reward, thumb.key)
    except (FeedbackError, UnknownDecisionError) as error:
        raise HTTPException(status_code=400, detail=str(error)) from error
    return {"status": receipt.status, "candidate": receipt.candidate}


app.include_router(routes)
