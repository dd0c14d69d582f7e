"""Any request there can be: as the OpenAPI document has it, broken in one place of it, or odd in its bytes (G8).

`any_request` sends them to a real server of tiny models for texts and images; `fuzz` to a server that runs already.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from finetune.importing import import_checkpoint
from models.aliases import promote
from models.repository import ModelRepository
from models.version import Reference
from tests.faults.byte_fuzz import byte_fuzz
from tests.faults.connection_fuzz import connection_fuzz
from tests.faults.figure import Figure
from tests.faults.fuzz_result import FuzzResult
from tests.faults.metrics import settled_outcomes
from tests.faults.schema_fuzz import schema_fuzz
from tests.server_process import ServerProcess, ready_server
from tests.tiny_models import LETTERS, MOODS, TorchEngines, publish_texts, write_tiny_text, write_tiny_vision


def any_request(*, cases: int = 100_000, seed: int | None = None) -> list[Figure]:
    """No request breaks the server, and every answer keeps its promises.

    Args:
        cases: as in `fuzz`.
        seed: as in `fuzz`.
    """
    with tiny_server() as server:
        api, workers = server.api(), server.workers()
        result = fuzz(f"http://127.0.0.1:{server.port}", cases, seed=seed)
        print("\n".join([result.table(), *result.failures]))
        settled_outcomes(server.port)
        records = server.records()
        complaints = [record for record in records if record["level"] == "error" or "traceback" in record]
        exits = len({api, *workers} - {server.api(), *server.workers()})
        return [
            Figure(goal="G8", name="requests", value=result.cases, relation=">=", bar=cases),
            *(
                Figure(goal="G8", name=f"answers with {status}", value=n)
                for status, n in sorted(result.by_status.items())
            ),
            Figure(goal="G8", name="broken promises", value=result.failed, bar=0),
            Figure(goal="G8", name="slowest answer", value=result.slowest, unit="s"),
            Figure(goal="G8", name="processes that ended", value=exits, bar=0),
            Figure(goal="G8", name="errors in the log", value=len(complaints), bar=0),
            Figure(goal="G8", name="a request afterwards", value=server.predict("letters", ["a"]).status == 200, bar=1),
        ]


def fuzz(server_url: str, cases: int, *, seed: int | None = None, deadline: float = 30.0) -> FuzzResult:
    """Sends about so many requests, one after the other: a quarter by the document, the others odd in their bytes.

    After them come twice as many connections, each of which is odd as a whole.

    Args:
        server_url: such as ``http://127.0.0.1:8000``; its models and aliases are asked for by their names.
        cases: how many; some 1,000 more follow from the document.
        seed: for the same requests again; without one they are new each time.
        deadline: seconds that the server allows a request.
    """
    models: list[str] = _get(f"{server_url}/v1/models", deadline)["models"]
    aliases = sorted(
        {alias for model in models for alias in _get(f"{server_url}/v1/models/{model}", deadline)["aliases"]}
    )
    result = FuzzResult(seed=random.randrange(1 << 32) if seed is None else seed, deadline=deadline)
    schema_fuzz(server_url, cases // 4, models, aliases, result)
    byte_fuzz(server_url, cases - cases // 4, models, aliases, result)
    connection_fuzz(server_url, 2 * cases, models, aliases, result)
    return result


def _get(url: str, timeout: float) -> Any:
    with build_opener(ProxyHandler({})).open(url, timeout=timeout) as response:
        return json.load(response)


@contextmanager
def tiny_server() -> Iterator[ServerProcess]:
    """A ready server of ``colours`` for images, and of ``letters`` and ``moods``, the first with an alias."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for kind in ("vision", "text"):
            (directory / kind).mkdir()
        repository = ModelRepository(directory / "repository")
        import_checkpoint(repository, write_tiny_vision(directory / "vision"), "colours", TorchEngines())
        checkpoint = write_tiny_text(directory / "text")
        publish_texts(repository, checkpoint, "letters", LETTERS, seed=1)
        publish_texts(repository, checkpoint, "moods", MOODS, seed=2)
        promote(repository, Reference(name="letters", number=1), "champion")
        with ready_server(repository.root) as server:
            yield server
