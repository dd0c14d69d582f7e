"""The load generator against a server that answers as it is told: whatever goes wrong is seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.generator import FOLDER, load, run
from tests.faults.scripted_server import Act, Asked, ScriptedServer, reset, rightly
from tests.processes import free_port

TEXTS = [f"text {number}" for number in range(5)]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"{text}\n" for text in TEXTS))
    return file


def saying(**odd: object) -> Act:
    """An answer that is right, but for what is given."""

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(asked.answer(**odd))  # type: ignore[arg-type]

    return act


async def hang_up(asked: Asked, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def stop_half_way(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(asked.answer()[:-10])
    writer.close()


async def be_silent(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def speak_another_language(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


def test_a_closed_loop_asks_every_item_in_turn(texts: Path) -> None:
    with ScriptedServer() as server:
        found = load(server.port, texts, "--model=echo", "--clients=3", "--requests=50")
    assert found["sent"] == found["right"] == len(server.asked) == 50
    assert server.connections == 3  # kept alive
    assert [asked.path for asked in server.asked] == ["/v1/models/echo:predict"] * 50
    asked_for = [json.loads(asked.body)["instances"][0] for asked in server.asked]
    assert all(asked_for.count(text) == 10 for text in TEXTS)
    ids = {(asked.id, asked.body) for asked in server.asked}
    assert len(ids) == 5  # all requests for an item have one id


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (saying(labels=["0" * 64]), "was"),
        (saying(labels=[]), "was"),
        (saying(id="somebody-else"), "is the answer to request somebody-else"),
        (saying(body=b"{}"), "was"),
        (saying(body=b"no JSON"), "was"),
    ],
)
def test_a_wrong_answer_is_noticed_and_shown(texts: Path, act: Act, why: str) -> None:
    with ScriptedServer(script={7: act}) as server:
        found = load(server.port, texts, "--model=echo", "--clients=1", "--requests=20", code=1)
    assert (found["right"], found["wrong"]) == (19, 1)
    (complaint,) = found["complaints"]
    assert complaint.startswith(f"echo row 3: {why}")


def test_a_wrong_answer_may_be_the_first_one(texts: Path) -> None:
    with ScriptedServer(script={2: saying(labels=["0" * 64])}) as server:
        found = load(server.port, texts, "--model=echo", "--clients=1", "--requests=20", code=1)
    assert found["wrong"] == 3  # the three right ones after it


def test_answers_are_held_against_those_that_are_expected(texts: Path, tmp_path: Path) -> None:
    with ScriptedServer(default=saying(labels=["same"])) as server:
        expected = tmp_path / "answers.jsonl"
        rows = [{"text": text, "prediction": {"label": "same", "score": 1.004}} for text in TEXTS]
        expected.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        options = ["--model=echo", "--clients=1", "--requests=10", f"--expected={expected}"]
        assert load(server.port, texts, *options)["right"] == 10
        assert load(server.port, texts, *options, "--tolerance=0.001", code=1)["wrong"] == 10
        rows[4]["prediction"] = {"label": "other", "score": 1.0}
        expected.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        found = load(server.port, texts, *options, code=1)
        assert (found["right"], found["wrong"]) == (8, 2)
        assert "is not what was expected" in found["complaints"][0]
        expected.write_text("".join(f"{json.dumps(row)}\n" for row in rows[:3]))
        refused = run(f"--data={texts}", *options)
    assert refused.returncode == 2
    assert "has 3 rows" in refused.stderr


def test_a_version_that_must_answer(texts: Path) -> None:
    with ScriptedServer() as server:
        assert load(server.port, texts, "--model=echo", "--requests=10", "--version=1")["right"] == 10
        found = load(server.port, texts, "--model=echo", "--requests=10", "--version=2", code=1)
    assert found["complaints"][0].endswith("is of version 1, not 2")


@pytest.mark.parametrize("way", ["--clients=1", "--rate=200"])
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (hang_up, "the connection was closed"),
        (stop_half_way, "the connection was closed"),
        (be_silent, "no answer within 0.3 s"),
        (speak_another_language, "not HTTP/1.1 with a Content-Length"),
    ],
)
def test_a_lost_answer_is_counted_and_the_load_goes_on(texts: Path, way: str, act: Act, reason: str) -> None:
    until = "--requests=20" if way.startswith("--clients") else "--seconds=0.2"
    with ScriptedServer(script={7: act}) as server:
        found = load(server.port, texts, "--model=echo", way, until, "--timeout=0.3", code=1)
    assert found["lost"] == {reason: 1}
    assert found["right"] == found["sent"] - 1 >= 19


@pytest.mark.parametrize("way", [("--clients=2", "--requests=3"), ("--rate=50", "--seconds=0.2")])
def test_a_server_that_is_not_there(texts: Path, way: Sequence[str]) -> None:
    found = load(free_port(), texts, "--model=echo", *way, code=1)
    assert found["lost"] == {"connection refused": found["sent"]}
    assert found["right"] == 0
    assert found["p99_ms"] is None


def test_refusals_are_counted_and_are_no_failures(texts: Path) -> None:
    refusal = saying(status=503, headers={"Retry-After": "30"})
    with ScriptedServer(script=dict.fromkeys(range(3, 9), refusal)) as server:
        found = load(server.port, texts, "--model=echo", "--rate=200", "--seconds=0.2", "--arrivals=constant")
    assert found["statuses"] == {"200": found["sent"] - 6, "503": 6}  # nobody waited for 30 s
    assert "code_503" in found["errors"]["503"]
    assert len(found["latencies"]) == found["right"] == found["sent"] - 6


def test_a_closed_loop_waits_for_a_retry_after(texts: Path) -> None:
    refusal = saying(status=503, headers={"Retry-After": "1"})
    with ScriptedServer(script={0: refusal}) as server:
        found = load(server.port, texts, "--model=echo", "--clients=1", "--requests=3")
    assert found["statuses"] == {"200": 2, "503": 1}
    assert found["seconds"] >= 1


def test_a_load_that_is_only_refused_has_failed(texts: Path) -> None:
    with ScriptedServer(default=saying(status=404)) as server:
        found = load(server.port, texts, "--model=echo", "--requests=5", code=1)
    assert found["statuses"] == {"404": 5}


def test_an_open_loop_does_not_wait_for_the_server(texts: Path) -> None:
    async def when_all_are_there(asked: Asked, writer: asyncio.StreamWriter) -> None:
        while len(server.asked) < 30:
            await asyncio.sleep(0.005)
        await rightly(asked, writer)

    with ScriptedServer(default=when_all_are_there) as server:
        found = load(server.port, texts, "--model=echo", "--rate=101", "--seconds=0.3", "--arrivals=constant")
    assert found["right"] == server.connections == 30


class Stall:
    """Answers nothing for a while from its first request on."""

    SECONDS = 0.4

    def __init__(self) -> None:
        self._ends = 0.0

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time()
        self._ends = self._ends or now + self.SECONDS
        await asyncio.sleep(max(0.0, self._ends - now))
        await rightly(asked, writer)


def test_latencies_count_from_the_schedule(texts: Path) -> None:
    """Of 60 requests 40 are due in a stall of 0.4 s, and one of them is out: all others wait before they are sent."""
    options = ["--model=echo", "--rate=100", "--seconds=0.6", "--arrivals=constant", "--connections=1"]
    with ScriptedServer(default=Stall()) as server:
        found = load(server.port, texts, *options)
    assert server.connections == 1
    assert found["right"] == found["sent"] >= 59
    slow = [latency for latency in found["latencies"] if latency > 0.1]
    assert len(slow) >= 25
    assert found["max_ms"] >= 380
    assert found["p50_ms"] > 50
    assert found["sent_late_p99_ms"] > 300


def test_a_closed_loop_shows_a_stall_once(texts: Path) -> None:
    with ScriptedServer(default=Stall()) as server:
        found = load(server.port, texts, "--model=echo", "--clients=1", "--requests=60")
    assert sum(latency > 0.1 for latency in found["latencies"]) == 1


def test_arrivals_have_the_rate(texts: Path) -> None:
    with ScriptedServer() as server:
        found = load(server.port, texts, "--model=echo", "--rate=400", "--seconds=1", "--seed=3")
    assert found["right"] == pytest.approx(400, rel=0.15)


def test_several_servers_take_turns(texts: Path) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(ScriptedServer()) for _ in range(2)]
        ports = [server.port for server in servers]
        load(ports, texts, "--model=echo", "--rate=200", "--seconds=0.2")
        first, second = (len(server.asked) for server in servers)
        assert abs(first - second) <= 1
        load(ports, texts, "--model=echo", "--clients=4", "--requests=40")
        assert min(len(server.asked) for server in servers) > first


def test_requests_as_they_are_and_files_beside_them(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"instances": ["from a file"]}')
    lines = [
        {"path": "/one", "file": "a.json"},
        {"path": "/two", "body": {"instances": ["b"]}},
        {"path": "/three", "body": '{"instances":["c"]}', "content_type": "text/odd"},
    ]
    data = tmp_path / "requests.jsonl"
    data.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with ScriptedServer() as server:
        load(server.port, data, "--clients=1", "--requests=3", "--header=X-Odd: 1: 2", "--api-key=secret")
    assert [(asked.path, asked.headers["content-type"]) for asked in server.asked] == [
        ("/one", "application/json"),
        ("/two", "application/json"),
        ("/three", "text/odd"),
    ]
    assert {asked.headers["x-odd"] for asked in server.asked} == {"1: 2"}
    assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer secret"}


@pytest.mark.parametrize(
    ("name", "content", "options", "complaint"),
    [
        ("texts.txt", "a text\n", [], "name a model"),
        ("texts.csv", "words\nb\n", ["--model=m"], "no column 'text'"),
        ("texts.txt", "", ["--model=m"], "no image or text"),
        ("texts.txt", "a\n", ["--model=m", "--url=localhost:8000"], "a URL begins with http"),
        ("texts.txt", "a\n", ["--model=m", "--rate=5", "--requests=3"], "lasts for --seconds"),
        (None, "", ["--model=m"], "No such file"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    tmp_path: Path, name: str | None, content: str, options: Sequence[str], complaint: str
) -> None:
    if name is not None:
        (tmp_path / name).write_text(content)
    done = run(f"--data={tmp_path / (name or 'missing.txt')}", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr


def test_the_table_says_what_went_wrong(texts: Path) -> None:
    script = {1: saying(status=503), 8: saying(labels=["0" * 64])}
    with ScriptedServer(script=script) as server:
        done = run(
            f"--url=http://127.0.0.1:{server.port}", f"--data={texts}", "--model=echo", "--clients=1", "--requests=20"
        )
    assert done.returncode == 1
    rows = {line.rpartition("  ")[0].strip(): line.split()[-1] for line in done.stdout.splitlines()}
    assert (rows["sent"], rows["right"], rows["wrong"], rows["status 503"]) == ("20", "18", "1", "1")
    assert "p99.9" in rows
    assert "wrong: echo row 4: was" in done.stdout
    assert "code_503" in done.stdout


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("https://server.example/models/", "server.example:443"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_a_server_is_told_by_what_name_it_was_asked(monkeypatch: pytest.MonkeyPatch, url: str, authority: str) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from generate import target_of  # type: ignore[import-not-found]

    assert target_of(url).authority == authority
