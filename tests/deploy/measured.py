"""Which metrics there are: those of a real server, in which something of everything has happened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from service.auth.key import Scope
from service.auth.key_file import KeyFile
from tests.deploy.promql import Labels
from tests.processes import free_port, wait_for
from tests.server_process import ServerProcess, ready_server
from tests.service.guarded import Guarded, bearer
from tests.tiny_models import copy_of_texts

OF_A_TARGET = frozenset({"job", "instance"})  # what Prometheus adds
OF_AN_ALERT = frozenset({"alertname", "alertstate", "severity"})
TRITON = "nv_"

# What the server finds when it imports NVIDIA's bindings.
PYNVML = """
import sys
from tests.service.nvml import Nvml
sys.modules[__name__] = Nvml(1)
"""


def labels_of_a_server(models: Path, directory: Path) -> dict[str, Labels]:
    """Of each metric, by the names that its samples have in Prometheus."""
    copy_of_texts(models, directory / "repository")
    damage(directory / "repository")
    (directory / "site").mkdir()
    (directory / "site" / "pynvml.py").write_text(PYNVML)
    file = KeyFile(directory / "repository" / ".keys.json")
    file.create("first", [Scope.ADMIN])
    path = f"{directory / 'site'}:{Path(__file__).parents[2]}"
    with ready_server(directory / "repository", "--device", "auto", "--triton-metrics", PYTHONPATH=path) as server:
        guarded = Guarded(server, file)
        wait_for(lambda: guarded.ask(bearer(guarded.predict)).status == 200, 10, server.text)
        assert guarded.ask({}).status == 401

        def exposition() -> str:
            return server.request("GET", "/metrics", headers=bearer(guarded.metrics)).body.decode()

        wait_for(lambda: "graftwork_batch_size_rows_bucket" in exposition(), 10, server.text)
        families = list(text_string_to_metric_families(exposition()))
    families += _families_beside_triton(directory)
    found: dict[str, Labels] = {}
    for family in families:
        for sample in family.samples:  # the parser puts _total behind the names of Triton's counters, which have none
            name = family.name if family.name.startswith(TRITON) else sample.name
            found[name] = found.get(name, OF_A_TARGET) | set(sample.labels)
    return {**found, "up": OF_A_TARGET, "ALERTS": OF_A_TARGET | OF_AN_ALERT}


def _families_beside_triton(directory: Path) -> Sequence[Metric]:
    """What a server has whose Triton is not there."""
    options = ("--engine", "triton", "--triton-url", f"127.0.0.1:{free_port()}")
    server = ServerProcess(repository=directory / "no-models", options=options)

    def families() -> list[Metric]:
        try:
            exposition = server.request("GET", "/metrics").body.decode()
        except OSError:  # it does not listen yet
            return []
        found = text_string_to_metric_families(exposition)
        return [each for each in found if each.name.startswith("graftwork_triton") and each.samples]

    try:
        wait_for(families, 90, server.text)
        return families()
    finally:
        server.destroy()


def damage(repository: Path) -> None:
    """Adds ``letters:7``, whose manifest is none, as a repository may have it that was restored in part."""
    (repository / "letters" / "7").mkdir()
    (repository / "letters" / "7" / "manifest.json").write_text("{}")
