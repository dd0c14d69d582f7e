from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from graftwork import app
from models.errors import InvalidParameter
from models.version import Reference
from service.client import Client, Item, Predictions
from service.client.predictions import parse_prediction
from service.substrate import SOCKET_NAME, make_runtime_dir
from tests.processes import free_port
from tests.server_process import ServerProcess
from tests.tiny_models import picture


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "graftwork", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_others_reach_needs_a_key_or_a_word_of_consent(host: str, tmp_path: Path) -> None:
    started = time.monotonic()
    done = run("serve", "--host", host, "--repository", str(tmp_path))
    assert time.monotonic() - started < 5
    assert done.returncode == 2
    reason = " ".join(done.stderr.replace("\u2502", " ").split())
    assert f"{host} can be reached from other machines and there are no keys" in reason
    assert "make one: graftwork keys create, or add --allow-unauthenticated" in reason
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--load-model", "a"), "every model is served; to load them by their names, add --model-control explicit"),
        (("--load-model", "*", "--model-control", "auto"), "add --model-control explicit"),
        (
            ("--model-control", "explicit", "--host", "0.0.0.0", "--allow-unauthenticated"),
            "first: graftwork keys create --scope admin",
        ),
    ],
)
def test_a_model_control_that_cannot_be_meant_says_what_to_do(
    arguments: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["serve", "--repository", str(tmp_path), *arguments], terminal_width=300)
    assert done.exit_code == 2
    assert reason in " ".join(done.output.replace("\u2502", " ").split())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--engine", "triton"], "add --triton-url HOST:PORT"),
        (["--triton-url", "triton:8001"], "without --engine triton"),
        (["--engine", "triton", "--triton-url", "http://triton:8000"], "name a Triton server by HOST:PORT"),
        (["--engine", "triton", "--triton-url", "a:1", "--triton-url", "a:1"], "named twice"),
        (["--engine", "triton", "--triton-url", "a:1", "--precision", "int8"], "fp32; use --precision auto"),
        (["--engine", "triton", "--triton-url", "a:1", "--backbone-memory", "1GiB"], "leave --backbone-memory out"),
    ],
)
def test_a_fleet_that_cannot_be_meant_says_what_to_do(arguments: list[str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match=reason):
        CliRunner().invoke(app, ["serve", "--repository", str(tmp_path), *arguments], catch_exceptions=False)


def test_nothing_is_learnt_from_features_that_others_compute(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["finetune", str(tmp_path), "--engine", "triton"], terminal_width=300)
    assert done.exit_code == 2
    assert "'triton' is not one of" in " ".join(done.output.split())


def test_a_model_to_load_whose_name_is_none_is_refused_before_a_server_starts(tmp_path: Path) -> None:
    arguments = ["--repository", str(tmp_path), "--model-control", "explicit", "--load-model", "../a"]
    with pytest.raises(InvalidParameter, match="name"):
        CliRunner().invoke(app, ["serve", *arguments], catch_exceptions=False)


@pytest.mark.parametrize("wrong", ["../a", "a:b", "a@", "a/b/c", "", "/b"])
def test_a_model_for_clients_of_tei_that_can_be_none_is_refused_before_a_server_starts(
    tmp_path: Path, wrong: str
) -> None:
    with pytest.raises(InvalidParameter):
        CliRunner().invoke(app, ["serve", "--repository", str(tmp_path), "--tei-model", wrong], catch_exceptions=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--host", "example.org"),
        ("--port", "80"),
        ("--workers", "0"),
        ("--device", "tpu"),
        ("--backbone-memory", "much"),
        ("--model-control", "poll"),
    ],
)
def test_options_that_make_no_sense_end_with_2(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, ["serve", *arguments]).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (("--engine", "torch", "--precision", "int8"), "use --engine auto"),
        (("--device", "cuda", "--engine", "auto", "--precision", "int8"), "use --precision auto"),
        (("--device", "cuda", "--engine", "openvino"), "use --engine auto"),
    ],
)
def test_engine_precision_and_device_that_do_not_go_together_are_refused_before_a_server_starts(
    arguments: tuple[str, ...], cure: str
) -> None:
    with pytest.raises(InvalidParameter, match=cure):
        CliRunner().invoke(app, ["serve", *arguments], catch_exceptions=False)


def test_a_port_in_use_is_one_line(server: ServerProcess, tmp_path: Path) -> None:
    done = run("serve", "--port", str(server.port), "--repository", str(tmp_path), TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert (
        done.stderr == f"error: cannot listen on 127.0.0.1:{server.port}: Address already in use; try another --port\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_predict_asks_a_running_server(server: ServerProcess, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.port}"
    (tmp_path / "a.png").write_bytes(picture(1))
    image = run("predict", "colours", str(tmp_path / "a.png"), GRAFTWORK_URL=url)
    assert image.returncode == 0, image.stderr
    assert image.stdout.splitlines()[-1] == "answered by colours:1"
    texts = run("predict", "letters:1", "one", "two", "--top-k", "1", "--url", url)
    assert len(texts.stdout.splitlines()) == 3
    unknown = run("predict", "letter", "one", "--url", url)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "did you mean 'letters'" in unknown.stderr
    assert unknown.stderr.count("\n") == 1


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Answers of a server; what it was asked is put behind them."""
    answers: list[Any] = []

    def predict(self: Client, reference: Reference, items: Sequence[Item], **options: object) -> Predictions:
        predictions = tuple(map(parse_prediction, answers))
        answers.append(list(items))
        return Predictions(model=reference.name, version=1, request_id="r", predictions=predictions)

    monkeypatch.setattr(Client, "predict", predict)
    return answers


def test_predict_shows_what_each_task_answers(answering: list[Any]) -> None:
    answering += [
        {"value": 3.25, "interval": [2.5, 4.0]},
        {"labels": ["food"], "scores": {"food": 0.9, "war": 0.1}},
        {"entities": [{"label": "city", "text": "New York", "start": 0, "end": 8, "score": 0.75}]},
        {"embedding": [0.25, -0.5, 0.125, 0.0, 1.0, 2.0]},
    ]
    shown = CliRunner().invoke(app, ["predict", "any", "one", "two", "three", "four"]).output
    for words in (
        "one    3.25   2.5 to 4",
        "two    food* 0.900   war 0.100",
        "three  city 'New York' 0.750",
        "four   6 numbers: 0.2500  -0.5000  0.1250  0.0000  1.0000 ...",
    ):
        assert words in shown


def test_predict_takes_texts_two_by_two(answering: list[Any]) -> None:
    answering += [{"value": 1.0, "interval": [0.0, 2.0]}] * 2
    done = CliRunner().invoke(app, ["predict", "likeness", "--pairs", "a", "b", "c", "d"])
    assert done.exit_code == 0, done.output
    assert answering[-1] == [("a", "b"), ("c", "d")]
    for inputs in (["a"], ["a", "b", "c"]):
        refused = CliRunner().invoke(app, ["predict", "likeness", "--pairs", *inputs])
        assert "--pairs takes an even number of texts" in str(refused.exception)


def test_predict_without_a_server_is_one_line() -> None:
    done = run("predict", "letters", "one", GRAFTWORK_URL=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no server")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (("photo.jpg",), "photo.jpg: there is no such file"),
        (("there.png", "photo.webp"), "photo.webp: there is no such file"),
        (("there.png", "a text"), "a model reads images or texts, and 'a text' is no file while others are"),
        (("rows.csv",), "rows.csv: there is no such file"),
        (("folder", "there.png"), "folder is scored row by row; name nothing beside it"),
        (("folder", "--pairs"), "--pairs is for texts; name two columns: --text-column and --pair-column"),
        (
            ("there.png", "--output", "a.csv"),
            "--output and the names of columns are for a folder of images, or a .csv, .tsv or .jsonl file",
        ),
    ],
)
def test_an_input_that_cannot_be_meant_is_refused_before_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: tuple[str, ...], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").write_bytes(picture(1))
    (tmp_path / "folder").mkdir()
    result = CliRunner().invoke(app, ["predict", "colours", *inputs])
    assert isinstance(result.exception, InvalidParameter)
    assert str(result.exception) == reason


def test_a_device_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = run("serve", "--device", "cuda", "--port", str(free_port()), PATH=str(tmp_path), TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: there is no CUDA device here")
    assert list(tmp_path.iterdir()) == []


def test_the_socket_of_the_workers_fits_whatever_tmpdir_is(monkeypatch: pytest.MonkeyPatch) -> None:
    long = Path(tempfile.mkdtemp()) / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    directory = make_runtime_dir()
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(directory / SOCKET_NAME))
        assert list(long.iterdir()) == []
    finally:
        shutil.rmtree(directory)
        shutil.rmtree(long.parent)
