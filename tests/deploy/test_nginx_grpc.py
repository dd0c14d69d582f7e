"""gRPC through nginx, with the lines that the shipped file has commented out for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2

from service.api.oip.grpc_scopes import HEALTH
from service.auth.key import Scope
from service.auth.key_file import KeyFile
from tests.deploy.proxy import Proxy
from tests.processes import free_port
from tests.server_process import ready_server
from tests.service.spoken import tensor, words
from tests.tiny_models import copy_of_texts

SERVING = health_pb2.HealthCheckResponse.SERVING


class Through:
    """A client over gRPC, through nginx, to a real server that asks for keys."""

    def __init__(self, proxy: Proxy, secret: str) -> None:
        self.proxy = proxy
        self.client = triton.InferenceServerClient(f"127.0.0.1:{proxy.grpc_port}")
        self.headers = {"authorization": f"Bearer {secret}"}

    def infer(self, *texts: str, **options: object) -> triton.InferResult:
        return self.client.infer("letters", [tensor("text", words(*texts))], **{"headers": self.headers, **options})


@pytest.fixture(scope="module")
def through(nginx: str, models_on_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Through]:
    root = tmp_path_factory.mktemp("grpc")
    copy_of_texts(models_on_disk, root / "models")
    _, secret = KeyFile(root / "keys.json").create("shop", [Scope.PREDICT])
    port = free_port()
    with ready_server(root / "models", "--grpc-port", str(port), "--keys", str(root / "keys.json")) as server:
        proxy = Proxy(program=nginx, upstreams=[server.port], grpc_upstream=port)
        try:
            yield Through(proxy, secret)
        finally:
            proxy.destroy()


def test_a_prediction_passes_with_its_key_and_its_id(through: Through) -> None:
    answer = through.infer("abc", "def", headers={**through.headers, "x-request-id": "through-nginx"})
    assert answer.as_numpy("label").shape == (2,)
    lines = (through.proxy.directory / "grpc.log").read_text().splitlines()
    assert "through-nginx" in {json.loads(line)["request_id"] for line in lines}


def test_the_server_s_own_refusals_pass(through: Through) -> None:
    with pytest.raises(triton.InferenceServerException) as refused:
        through.infer("abc", headers={})
    assert refused.value.status() == "StatusCode.UNAUTHENTICATED"


def test_large_messages_are_for_the_server_to_judge(through: Through) -> None:
    with pytest.raises(triton.InferenceServerException) as refused:
        through.infer("a" * (3 << 20))
    assert "body_too_large" in str(refused.value)  # of the server's 2 MiB for texts; nginx's own default is 1


def test_health_needs_no_key_here_either_and_is_watched(through: Through) -> None:
    assert through.client.is_server_ready()
    with grpc.insecure_channel(f"127.0.0.1:{through.proxy.grpc_port}") as channel:
        watch = channel.unary_stream(f"/{HEALTH}/Watch")(b"", timeout=30)
        assert health_pb2.HealthCheckResponse.FromString(next(watch)).status == SERVING
        watch.cancel()
