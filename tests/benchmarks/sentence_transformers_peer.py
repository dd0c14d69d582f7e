"""Sentence-transformers behind FastAPI, as one would write it in an afternoon; see `tests.benchmarks.embeddings`.

python -m tests.benchmarks.sentence_transformers_peer --model dir --port 8000 --queue
"""

import argparse
import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Question(BaseModel):
    """OpenAI's, as far as it is asked here."""

    model: str
    input: list[str]
    encoding_format: str = "base64"


def application(model: SentenceTransformer, *, queue: bool) -> FastAPI:
    """Args: queue: requests are computed one after the other, each by all cores, and not at the same time."""

    def answer(question: Question) -> dict[str, Any]:
        vectors_BD = model.encode(question.input, batch_size=32, show_progress_bar=False)
        data = [
            {"object": "embedding", "index": index, "embedding": base64.b64encode(vector_D.tobytes()).decode()}
            for index, vector_D in enumerate(vectors_BD)
        ]
        return {"object": "list", "model": question.model, "data": data}

    app, computing = FastAPI(), ThreadPoolExecutor(1)

    async def answer_in_turn(question: Question) -> dict[str, Any]:
        return await asyncio.get_running_loop().run_in_executor(computing, answer, question)

    app.post("/v1/embeddings", response_model=None)(answer_in_turn if queue else answer)
    return app


def main() -> None:
    """Serves until a signal."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sentence_transformers_peer")
    parser.add_argument("--model", required=True, help="its folder")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--queue", action="store_true", help="one request at a time")
    options = parser.parse_args()
    app = application(SentenceTransformer(options.model, device="cpu"), queue=options.queue)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
