"""What `ChatMixLLM` adds to a bare `ChatLiteLLM`: a part of ``mixllm bench``, run in a process of its own.

``python -m langchain_mixllm._bench [--quick]`` prints rows as JSON (`mixllm_engine.evaluation.bench.calls`).
"""

from __future__ import annotations

from langchain_mixllm import ChatMixLLM
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.evaluation.bench.calls import KEY, MODELS, Clients, main, router


def chat_clients(address: str) -> Clients:
    """Return LangChain's chat model of LiteLLM, and ours over the same models."""
    load_litellm()  # with its bundled price map
    from langchain_litellm import ChatLiteLLM

    bare = ChatLiteLLM(model=f"openai/{MODELS[0]}", api_base=address, api_key=KEY)
    routed = ChatMixLLM(router=router(address))
    return Clients(names=("ChatLiteLLM", "ChatMixLLM"), bare=bare.invoke, routed=routed.invoke)


if __name__ == "__main__":
    main(chat_clients)
