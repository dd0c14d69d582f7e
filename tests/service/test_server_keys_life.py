"""Keys that are made, used, logged and revoked while a real server runs, and what it starts with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from service.auth.key import Scope
from service.auth.key_file import KeyFile
from tests.processes import free_port, wait_for
from tests.server_process import ready_server, samples
from tests.service.guarded import PATH, Guarded, bearer
from tests.tiny_models import copy_of_texts


def test_prometheus_scrapes_with_its_key(guarded: Guarded) -> None:
    reply = guarded.server.request("GET", "/metrics", headers=bearer(guarded.metrics))
    assert reply.status == 200
    refused = samples(reply.body, "graftwork_refused_requests_total")
    known = {key.id for key in guarded.file.read()}
    assert refused
    for key_id, reason in refused:
        assert key_id in {*known, "_unknown"}
        assert reason in {"unauthorized", "forbidden", "rate_limited"}


def test_a_refused_body_is_not_waited_for_and_its_connection_ends(guarded: Guarded) -> None:
    answer = guarded.server.raw(
        f"POST {PATH} HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\n".encode() + b"x" * 1000
    )
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer.lower()


def test_expect_continue_is_not_answered_with_go_on(guarded: Guarded) -> None:
    answer = guarded.server.raw(
        f"POST {PATH} HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_keys_are_made_and_revoked_while_the_server_runs(guarded: Guarded) -> None:
    key, secret = guarded.file.create("passing", [Scope.PREDICT])
    wait_for(lambda: guarded.ask(bearer(secret)).status == 200, 5, guarded.server.text)
    guarded.file.revoke(key.id)
    wait_for(lambda: guarded.ask(bearer(secret)).status == 401, 5, guarded.server.text)
    assert guarded.ask(bearer(guarded.predict)).status == 200


def test_a_rate_holds_over_connections(guarded: Guarded) -> None:
    _, secret = guarded.file.create("slow", [Scope.PREDICT], requests_per_second=2)
    wait_for(lambda: guarded.ask(bearer(secret)).status != 401, 5, guarded.server.text)
    replies = [guarded.ask(bearer(secret)) for _ in range(20)]
    refused = [reply for reply in replies if reply.status == 429]
    assert len(refused) >= 10
    assert {reply.headers["retry-after"] for reply in refused} == {"1"}
    assert {reply.json()["code"] for reply in refused} == {"rate_limited"}


def test_no_secret_is_ever_in_the_log(guarded: Guarded) -> None:
    """Right ones and wrong ones, where they belong and where they do not."""
    canary = "gw_deadbeef_" + "Canary" * 7 + "x"
    for secret in (guarded.predict, guarded.metrics, guarded.revoked, canary):
        for value in (secret, secret + "y" * 10_240, "é" + secret):
            guarded.ask({"authorization": f"Bearer {value}".encode().decode("latin-1")})
            guarded.ask({"x-api-key": value.encode("utf-8").decode("latin-1")})
            guarded.ask({"authorization": f"Basic {value}".encode().decode("latin-1")})
        guarded.ask({"x-request-id": secret}, f"?api_key={secret}")
        guarded.server.request("GET", f"/v1/models/{secret}", headers={"user-agent": secret, "referer": secret})
        guarded.server.request("GET", f"/{secret}", headers={"host": secret})
        guarded.server.raw(f"GET /{secret} HTTP/1.1\r\nHost: a b\r\n\r\n".encode())
        guarded.server.raw(f"{secret}\r\n\r\n".encode())
    last = guarded.ask({"x-request-id": "the-last-one"})
    assert last.status == 401
    wait_for(lambda: b"the-last-one" in guarded.server.log.read_bytes(), 10)
    log = guarded.server.log.read_text()
    for secret in (guarded.predict, guarded.metrics, guarded.revoked, canary):
        assert secret[12:40] not in log
    ids = {record.get("key") for record in guarded.server.records() if record["logger"] == "graftwork.access"}
    assert {key.id for key in guarded.file.read() if key.name in ("shop", "prometheus")} <= ids


def test_graftwork_predict_shows_its_key(guarded: Guarded) -> None:
    def predict(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        url = f"http://127.0.0.1:{guarded.server.port}"
        command = [sys.executable, "-m", "graftwork", "predict", "letters", "abc", "--url", url, *options]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)

    assert predict(GRAFTWORK_API_KEY=guarded.predict).stdout.endswith("answered by letters:1\n")
    assert predict("--api-key", guarded.predict).returncode == 0
    for done in (predict(), predict("--api-key", guarded.revoked)):
        assert done.returncode == 1
        assert "give one that it knows: --api-key KEY or GRAFTWORK_API_KEY" in done.stderr
        assert guarded.revoked not in done.stderr


# Its start


def serve(repository: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "graftwork", "serve", "--port", str(free_port()), "--repository", str(repository)]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=60)


def test_an_address_that_others_reach_wants_a_key_that_opens_something(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / ".keys.json")
    key, _ = file.create("ci", [Scope.PREDICT])
    file.revoke(key.id)
    done = serve(tmp_path, "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "there are no keys" in done.stderr


def test_a_server_does_not_start_with_a_key_file_that_others_can_read(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / ".keys.json")
    file.create("ci", [Scope.PREDICT])
    (tmp_path / ".keys.json").chmod(0o644)
    for options in ((), ("--host", "0.0.0.0", "--allow-unauthenticated")):
        done = serve(tmp_path, *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "error: .keys.json holds the keys, and others have access to it; run: chmod 600 .keys.json\n"
        )


def test_with_a_key_any_address_may_be_bound(models_on_disk: Path, tmp_path: Path) -> None:
    """The server that then runs asks for it, also when it is the repository's own file."""
    copy_of_texts(models_on_disk, tmp_path / "repository")
    file = KeyFile(tmp_path / "repository" / ".keys.json")
    key, secret = file.create("ci", [Scope.PREDICT, Scope.METADATA])
    with ready_server(tmp_path / "repository", "--host", "0.0.0.0") as server:
        assert server.predict("letters", ["abc"]).status == 401
        assert server.predict("letters", ["abc"], **bearer(secret)).status == 200
        assert server.request("GET", "/openapi.json", headers=bearer(secret)).status == 200
        assert server.request("GET", "/openapi.json").status == 401
        file.revoke(key.id)
        wait_for(lambda: server.predict("letters", ["abc"], **bearer(secret)).status == 401, 5, server.text)


def test_the_first_key_closes_a_server_that_runs(models_on_disk: Path, tmp_path: Path) -> None:
    copy_of_texts(models_on_disk, tmp_path / "repository")
    with ready_server(tmp_path / "repository") as server:
        assert server.predict("letters", ["abc"], authorization="Bearer sk-whatever").status == 200
        _, secret = KeyFile(tmp_path / "repository" / ".keys.json").create("ci", [Scope.PREDICT])
        wait_for(lambda: server.predict("letters", ["abc"]).status == 401, 5, server.text)
        assert server.predict("letters", ["abc"], **bearer(secret)).status == 200
