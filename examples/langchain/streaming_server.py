"""A web endpoint that streams answers and takes thumbs.

    python -m examples.langchain.streaming_server            asks itself once, and ends
    python -m examples.langchain.streaming_server --serve    stays, at http://127.0.0.1:8000

``POST /ask {"question": ...}`` streams the answer as text; its header ``decision-id`` is what ``POST /feedback
{"decision_id": ..., "score": ...}`` wants back.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from examples.offline import candidates
from langchain_mixllm import ChatMixLLM
from mixllm_engine import FeedbackError, Router, UnknownDecisionError


def application(llm: ChatMixLLM) -> Starlette:
    """Return the web application of a model."""

    async def ask(request: Request) -> Response:
        question = (await request.json())["question"]
        chunks = llm.astream(question)
        first = await anext(chunks)  # its metadata says which decision this is

        async def words() -> AsyncIterator[str]:
            yield first.text
            async for chunk in chunks:
                yield chunk.text

        decision_id = first.response_metadata["mixllm"]["decision_id"]
        return StreamingResponse(words(), media_type="text/plain", headers={"decision-id": decision_id})

    async def feedback(request: Request) -> Response:
        given = await request.json()
        try:
            receipt = await llm.afeedback(given["decision_id"], given["score"])
        except (FeedbackError, UnknownDecisionError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse({"status": receipt.status})

    return Starlette(routes=[Route("/ask", ask, methods=["POST"]), Route("/feedback", feedback, methods=["POST"])])


async def ask_once(app: Starlette) -> None:
    """Do what a browser would do."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://example") as browser:
        async with browser.stream("POST", "/ask", json={"question": "What is 20 + 22?"}) as answer:
            print("answer:", "".join([text async for text in answer.aiter_text()]))
        thumb = {"decision_id": answer.headers["decision-id"], "score": 1.0}
        print("feedback:", (await browser.post("/feedback", json=thumb)).json()["status"])
        print("twice:", (await browser.post("/feedback", json=thumb)).json()["status"])
        print("nonsense:", (await browser.post("/feedback", json={**thumb, "score": 5})).status_code)


def main(serve: bool) -> None:
    with candidates() as pool, Router(pool, seed=0) as router:
        app = application(ChatMixLLM(router=router, budget="low"))
        if serve:
            uvicorn.run(app, host="127.0.0.1", port=8000)
        else:
            asyncio.run(ask_once(app))


if __name__ == "__main__":
    main("--serve" in sys.argv)
