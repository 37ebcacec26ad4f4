"""A LangGraph with a checkpointer: a conversation stays with its LLM while that pays, by its thread.

python -m examples.langchain.graph
"""

from __future__ import annotations

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from examples.offline import candidates
from langchain_mixllm import ChatMixLLM
from mixllm_engine import Router


def main() -> None:
    with candidates() as pool, Router(pool, seed=0) as router:
        llm = ChatMixLLM(router=router, budget="medium")

        def answer(state: MessagesState) -> dict[str, object]:
            return {"messages": [llm.invoke(state["messages"])]}

        builder = StateGraph(MessagesState)
        builder.add_node("answer", answer)
        builder.add_edge(START, "answer")
        graph = builder.compile(checkpointer=InMemorySaver())

        for thread in ("monday", "tuesday"):
            config: RunnableConfig = {"configurable": {"thread_id": thread}}
            for question in ("What is 3 + 4?", "And what is 30 + 40?", "And 300 + 400?"):
                result = graph.invoke({"messages": [HumanMessage(question)]}, config)
                last = result["messages"][-1]
                print(f"{thread}: {last.text} ({last.response_metadata['mixllm']['candidate']})")
            # A checkpoint keeps the message, and the message its decision.
            kept = graph.get_state(config).values["messages"][-1]
            print(f"{thread}: feedback {llm.feedback(kept, 1.0).status}")


if __name__ == "__main__":
    main()
