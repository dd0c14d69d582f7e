"""The main job on the embedded backbones: the demo as a newcomer runs it, then what it left behind, through HTTP."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.embedded import EMBEDDED, embedded_directory
from models.engine_factory import EngineFactory
from models.golden import SCORE_TOLERANCE
from models.options import EngineName, PrecisionName
from models.precision import Precision
from models.preprocessor import RawItem
from models.repository import ModelRepository
from models.version import Reference
from service.client import Client, SingleLabel
from service.demo import free_port
from service.worker.loaded_version import LoadedVersion
from service.worker.registry import Registry

pytestmark = pytest.mark.skipif(
    any(embedded_directory(name) is None for name in EMBEDDED), reason="needs the extra: graftwork[embedded]"
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def as_a_user(directory: Path) -> dict[str, str]:
    """The environment without what makes tests quick: the engine is the one that is chosen here."""
    return {**os.environ, "GRAFTWORK_ENGINE": "auto", "GRAFTWORK_CACHE_DIR": str(directory / "cache")}


@pytest.fixture(scope="module")
def output(directory: Path) -> str:
    """What the demo printed; it ends by itself and leaves its models in ``directory``."""
    done = subprocess.run(
        [sys.executable, "-m", "graftwork", "demo", "--directory", str(directory)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**as_a_user(directory), "COLUMNS": "300"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_imagenet_classifier_knows_a_daisy_and_a_palace(output: str) -> None:
    assert re.search(r"flower\.jpg +daisy 0\.3", output)
    assert re.search(r"china\.jpg +palace 0\.[23]", output)


def test_digits_are_learned_and_every_request_is_answered(output: str) -> None:
    accuracy = float(re.search(r"digits:1 is published.*?accuracy +([\d.]+)", output, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert accuracy > 0.85
    assert "160 answered" in output
    assert "failed" not in output


def test_the_second_version_takes_over_without_a_failed_request(output: str) -> None:
    answers = re.search(r"Asked the whole time: (.*)", output)
    assert answers is not None
    assert re.fullmatch(r"\d+ answers by version 1, \d+ answers by version 2", answers.group(1).strip())
    assert "ends with exit code 0" in output


@pytest.fixture(scope="module")
def client(output: str, directory: Path) -> Iterator[Client]:
    port = free_port()
    command = [sys.executable, "-m", "graftwork", "serve", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--repository", str(directory / "model-repository")],
        stderr=subprocess.DEVNULL,
        env=as_a_user(directory),
    )
    client, deadline = Client(f"http://127.0.0.1:{port}"), time.monotonic() + 90
    try:
        while not client.is_ready():
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server was not ready in 90 s"
            time.sleep(0.1)
        yield client
    finally:
        client.close()
        process.terminate()
        assert process.wait(60) == 0


def in_process(
    directory: Path, name: str, *, engine: EngineName = "auto", precision: PrecisionName = "auto"
) -> LoadedVersion:
    engines = EngineFactory(
        "cpu",
        threads=len(os.sched_getaffinity(0)),
        cache_dir=directory / "cache",
        wanted=engine,
        precision=precision,
    )
    repository = ModelRepository(directory / "model-repository")
    return Registry(repository, engines).load(name, repository.resolve(Reference(name=name)).number)


@pytest.mark.parametrize("name", ["imagenet", "digits", "docs"])
def test_http_gives_what_the_process_gives(client: Client, directory: Path, name: str) -> None:
    items: list[str | bytes | Path]
    raw: list[RawItem]
    if name == "docs":
        with (directory / "data" / "docs" / "docs.csv").open(newline="", encoding="utf-8") as file:
            items = [row["text"] for row in csv.DictReader(file)][::40]
        raw = [str(item) for item in items]
    else:
        folder = directory / "data" / ("photos" if name == "imagenet" else "digits")
        items = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))[:12]
        raw = [Path(str(item)).read_bytes() for item in items]
    version = in_process(directory, name)
    predictor = version.predictor
    expected_NC = predictor.predict(raw)
    predictions = client.predict(name, items).predictions
    assert len(predictions) == len(items) > 1
    for prediction, expected_C in zip(predictions, expected_NC.tolist(), strict=True):
        wanted = dict(zip(predictor.labels, expected_C, strict=True))
        assert isinstance(prediction, SingleLabel)
        assert prediction.scores.keys() == wanted.keys()
        # In 8 bits, a batch of another size may round features to the next step.
        most = 1e-5 if version.serving.precision == "fp32" else SCORE_TOLERANCE[Precision.INT8]
        assert max(abs(prediction.scores[label] - wanted[label]) for label in wanted) < most
    by_torch_NC = in_process(directory, name, engine="torch").predictor.predict(raw)
    in_fp32_NC = in_process(directory, name, precision="fp32").predictor.predict(raw)
    assert (by_torch_NC - in_fp32_NC).abs().max() < 1e-3
