"""Retrieval-augmented generation; the feedback comes later, by the id of the chain's run.

python -m examples.langchain.rag
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from examples.offline import candidates
from langchain_mixllm import ChatMixLLM
from mixllm_engine import OnnxEncoder, Router

README = Path(__file__).parents[2] / "README.md"


class PackagedEmbeddings(Embeddings):
    """The encoder that MixLLM carries."""

    def __init__(self) -> None:
        self._encoder = OnnxEncoder()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._encoder.encode(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def joined(documents: list[Document]) -> str:
    return "\n\n".join(document.page_content for document in documents)


def main() -> None:
    paragraphs = [part for part in README.read_text(encoding="utf-8").split("\n\n") if len(part) > 60]
    store = InMemoryVectorStore.from_texts(paragraphs, PackagedEmbeddings())
    prompt = ChatPromptTemplate.from_template("Answer from this:\n{context}\n\nQuestion: {question}")
    with candidates() as pool, Router(pool, seed=0) as router:
        llm = ChatMixLLM(router=router, budget="high")
        retrieved = {"context": store.as_retriever(search_kwargs={"k": 2}) | joined, "question": RunnablePassthrough()}
        chain = retrieved | prompt | llm | StrOutputParser()

        run_id = uuid4()
        print(chain.invoke("Which licence does MixLLM have?", {"run_id": run_id})[:200], "...")
        # Whoever has the id of the run can grade it: this process or another, now or tomorrow.
        receipt = llm.feedback(run_id, 1.0)
        print(f"feedback {receipt.status} for {receipt.candidate}")


if __name__ == "__main__":
    main()
