"""The load generator and locust's users against a real server, and against one whose answers are wrong."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from tests.deploy.generator import FOLDER, load
from tests.faults.echo_server import echo_server
from tests.faults.scripted_server import Asked, ScriptedServer
from tests.server_process import ServerProcess

TEXTS = [f"text {number} of some" for number in range(6)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """``texts.csv`` and a folder ``images``."""
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in TEXTS)])
    (tmp_path / "images" / "below").mkdir(parents=True)
    for index in range(3):
        colour = [0, 0, 0]
        colour[index] = 200
        Image.new("RGB", (70, 64), tuple(colour)).save(tmp_path / "images" / "below" / f"{index}.jpg")
    return tmp_path


def test_texts_are_answered_rightly(server: ServerProcess, data: Path) -> None:
    options = ["--model=letters", "--model=moods", "--version=1", "--seconds=1"]
    assert load(server.port, data / "texts.csv", *options, "--clients=4")["right"] >= 12
    found = load(server.port, data / "texts.csv", *options, "--rate=50")
    assert found["right"] == found["sent"]


def test_images_are_answered_rightly(server: ServerProcess, data: Path) -> None:
    assert load(server.port, data / "images", "--model=colours", "--requests=12")["right"] == 12


def test_embeddings_are_answered_rightly(server: ServerProcess, data: Path) -> None:
    options = ["--ask=embeddings", "--model=letters", "--requests=24"]
    assert load(server.port, data / "texts.csv", *options)["right"] == 24


def test_answers_are_those_that_predict_has_written(server: ServerProcess, data: Path) -> None:
    expected = data / "answers.jsonl"
    command = [sys.executable, "-m", "graftwork", "predict", "letters", str(data / "texts.csv")]
    command += ["--output", str(expected), "--url", f"http://127.0.0.1:{server.port}"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    options = ["--requests=12", f"--expected={expected}"]
    assert load(server.port, data / "texts.csv", "--model=letters", *options)["right"] == 12
    assert load(server.port, data / "texts.csv", "--model=moods", *options, code=1)["wrong"] == 12


def test_overload_is_refused_and_nothing_is_wrong(data: Path) -> None:
    with echo_server(delay=0.1, max_batch_rows=4) as server:
        found = load(server.port, data / "texts.csv", "--model=echo", "--rate=400", "--seconds=1")
    assert found["statuses"]["503"] > found["statuses"]["200"] > 0
    assert found["lost"] == {}
    assert found["sent"] > 300


def locust(port: int, *options: str) -> tuple[int, Mapping[str, Mapping[str, str]], str]:
    """Runs locust's users; returns the exit code, its table by the names of its lines, and all that it said."""
    command = [sys.executable, "-m", "locust", "-f", str(FOLDER / "locustfile.py"), f"--host=http://127.0.0.1:{port}"]
    command += ["--headless", "--users=4", "--spawn-rate=100", "--run-time=4s", "--stop-timeout=10", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
    found = re.search(r"^\[\n.*?^\]", done.stdout, re.MULTILINE | re.DOTALL)
    table = json.loads(found[0] if found else "[]")
    return done.returncode, {line["name"]: line for line in table}, done.stdout + done.stderr


def test_locust_users_get_right_answers(server: ServerProcess, data: Path) -> None:
    options = [f"--texts={data / 'texts.csv'}", "--text-model=letters,moods", "--embedding-model=letters"]
    options += [f"--images={data / 'images'}", "--image-model=colours"]
    code, table, said = locust(server.port, *options)
    assert code == 0, said
    assert set(table) == {"predict letters", "predict moods", "predict colours", "embeddings letters"}
    for line in table.values():
        assert line["num_requests"] > 0
        assert line["num_failures"] == 0


class WrongLater:
    """Answers each request rightly the first time, and later not."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(asked.answer(labels=["0" * 64] if asked.id in self._seen else None))
        self._seen.add(asked.id)


def test_locust_says_what_was_wrong(data: Path) -> None:
    with ScriptedServer(default=WrongLater()) as server:
        code, table, said = locust(server.port, f"--texts={data / 'texts.csv'}", "--text-model=echo")
    assert code == 1
    failures, requests = (table["predict echo"][name] for name in ("num_failures", "num_requests"))
    assert 0 < failures < requests
    assert "at first, and is" in said


def test_locust_users_need_something_to_ask() -> None:
    code, _, said = locust(1)
    assert code == 2
    assert "name data and a model" in said


def test_locust_users_carry_a_key(data: Path) -> None:
    with ScriptedServer() as server:
        code, _, said = locust(server.port, f"--texts={data / 'texts.csv'}", "--text-model=echo", "--api-key=secret")
    assert code == 0, said
    assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer secret"}
    assert "secret" not in said
