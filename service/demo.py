"""``graftwork demo``: the main job on real data, from nothing to answered predictions, step by step.

It drives the command line and HTTP as a user would, and says at each step what to notice.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from models.errors import GraftworkError, NotReady
from service.client import Client

CLIENTS = 8  # requests under way at a time in the load step
REQUESTS = 160


class Demo:
    """One run.

    Args:
        directory: for sample data, the model repository and the server's log; kept, so that a second run is quick.
        console: where it is told.
    """

    def __init__(self, directory: Path, console: Console) -> None:
        self._directory = directory
        self._console = console
        self._repository = directory / "model-repository"
        self._data = directory / "data"
        self._step = 0

    def run(self, *, keep: bool) -> None:
        """Runs all steps; raises where one of them fails.

        Args:
            keep: leave the server running until Ctrl-C.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        self._samples()
        self._publish()
        with self._server() as client:
            self._predict(client)
            self._load(client)
            self._second_version(client)
            self._say(
                f"Done in {time.monotonic() - started:.0f} s. Everything is in {self._directory}; "
                f"your own data next: graftwork finetune DATA --name NAME"
            )
            if keep:
                self._keep(client)

    # Steps

    def _samples(self) -> None:
        self._headline("Real sample data, out of packages that are installed anyway")
        for name in ("photos", "digits", "docs"):
            if not (self._data / name).exists():
                self._graftwork("samples", "write", name, str(self._data / name))

    def _publish(self) -> None:
        self._headline("Three models")
        self._say("A checkpoint's own classifier, published as it is: 1,000 classes of ImageNet, no training.")
        self._graftwork("models", "import", "timm:tf_efficientnet_lite0", "--name", "imagenet")
        self._say("A head learned on handwritten digits, over the same backbone, which never saw a digit.")
        self._graftwork("finetune", str(self._data / "digits"), "--name", "digits")
        self._say("A text classifier: which part of Python's library does a sentence come from? First on few examples.")
        few = self._few_sentences()
        self._graftwork("finetune", str(few), "--name", "docs")
        self._say("What is on disk. A head is kilobytes: the backbone is stored once and shared.")
        self._graftwork("models", "list")

    def _few_sentences(self) -> Path:
        path = self._directory / "docs-few" / "docs.csv"
        if not path.exists():
            self._graftwork("samples", "write", "docs", str(path.parent), "--per-class", "12")
        return path

    def _predict(self, client: Client) -> None:
        self._headline("All three behind one server")
        self._say("A real photograph, to the ImageNet classifier:")
        self._ask("imagenet", str(self._data / "photos" / "flower.jpg"), str(self._data / "photos" / "china.jpg"))
        self._say("Handwritten digits, to the head that was learned a moment ago:")
        digits = [next(iter(sorted((self._data / "digits" / str(digit)).iterdir()))) for digit in (3, 7)]
        self._ask("digits", *map(str, digits))
        self._say("A sentence, to the text classifier:")
        self._ask("docs", "Rounds the number to the given precision and raises a signal if it is inexact.")
        self._say("The same with curl:")
        photo = self._data / "photos" / "flower.jpg"
        url = f"{client.url}/v1/models/imagenet:predict?top_k=1"
        self._command("curl", "--silent", "--data-binary", f"@{photo}", url)
        self._say(json.dumps(client.post_bytes("/v1/models/imagenet:predict?top_k=1", photo.read_bytes())))

    def _load(self, client: Client) -> None:
        self._headline(f"{REQUESTS} requests from {CLIENTS} clients at a time, for all three models")
        outcomes, seconds = self._send_many(client)
        self._say(
            f"{REQUESTS} requests in {seconds:.1f} s: " + ", ".join(f"{n} {what}" for what, n in outcomes.items())
        )
        samples = _samples(client)
        batches, rows = (
            _total(samples, "graftwork_batch_size_rows_count"),
            _total(samples, "graftwork_batch_size_rows_sum"),
        )
        self._say(
            f"From /metrics: {rows:.0f} rows in {batches:.0f} batches, {rows / batches:.1f} rows a batch. Rows wait for no "
            f"timer: a batch is whatever has queued up when the device is free. imagenet and digits stand on one backbone "
            f"and share batches."
        )
        for stage in ("request", "decode", "queue", "compute"):
            count = _total(samples, f"graftwork_{stage}_seconds_count")
            mean = _total(samples, f"graftwork_{stage}_seconds_sum") / count * 1000
            self._console.print(f"    {'mean ' + stage:<14} {mean:7.1f} ms")

    def _second_version(self, client: Client) -> None:
        self._headline("A second version, published while the first one serves")
        stop = threading.Event()
        versions: Counter[str] = Counter()

        def ask_on() -> None:
            while not stop.is_set():
                versions[_outcome(client, "docs", "Sends the message to the server over TLS.")] += 1

        asking = threading.Thread(target=ask_on)
        asking.start()
        try:
            self._graftwork("finetune", str(self._data / "docs" / "docs.csv"), "--name", "docs")
            newest = int(json.loads(self._output("models", "show", "docs", "--json"))["number"])
            _wait_for(lambda: versions[f"version {newest}"] > 0, seconds=30)
        finally:
            stop.set()
            asking.join()
        self._say(
            "Asked the whole time: " + ", ".join(f"{n} answers by {what}" for what, n in sorted(versions.items()))
        )
        self._say("The new version took over between two batches, once its golden outputs were checked.")
        self._say("The old one still answers to its number, and to an alias:")
        self._graftwork("models", "promote", f"docs:{newest - 1}", "--alias", "stable")
        _wait_for(lambda: _outcome(client, "docs@stable", "x") == f"version {newest - 1}", seconds=30)
        self._ask("docs@stable", "Sends the message to the server over TLS.")

    def _keep(self, client: Client) -> None:
        self._say(
            f"The server keeps running at {client.url}; Ctrl-C ends it. Try: graftwork predict imagenet PHOTO.jpg"
        )
        try:
            signal.pause()
        except KeyboardInterrupt:
            self._say("stopping")

    # Means

    def _send_many(self, client: Client) -> tuple[Counter[str], float]:
        photos = [path.read_bytes() for path in sorted((self._data / "photos").glob("*.jpg"))]
        digits = [path.read_bytes() for path in sorted((self._data / "digits").rglob("*.png"))[:40]]
        todo: list[tuple[str, Any]] = []
        for index in range(REQUESTS // 4):
            todo += [("imagenet", photos[index % 2]), ("digits", digits[index]), ("digits", digits[-index])]
            todo.append(("docs", f"Returns item number {index} of the queue, and waits for it if need be."))
        random.Random(0).shuffle(todo)
        outcomes: Counter[str] = Counter()
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    if not todo:
                        return
                    model, item = todo.pop()
                outcome = "answered" if _outcome(client, model, item).startswith("version") else "failed"
                with lock:
                    outcomes[outcome] += 1

        started = time.monotonic()
        threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes, time.monotonic() - started

    @contextmanager
    def _server(self) -> Iterator[Client]:
        port = free_port()
        client = Client(f"http://127.0.0.1:{port}", retries=0)  # it counts every refusal
        self._headline("A server")
        command = ["serve", "--port", str(port), "--repository", str(self._repository)]
        self._command("graftwork", *command)
        log = self._directory / "server.log"
        started = time.monotonic()
        without_keys = {name: value for name, value in os.environ.items() if name != "GRAFTWORK_KEYS"}
        with log.open("w") as output:
            process = subprocess.Popen([*_GRAFTWORK, *command], stderr=output, start_new_session=True, env=without_keys)
        try:
            _wait_for(lambda: process.poll() is not None or client.is_ready(), seconds=120)
            if process.poll() is not None:
                raise NotReady(f"the server ended; see {log}")
            self._say(f"Ready after {time.monotonic() - started:.1f} s; its log, one JSON object a line, is {log}.")
            self._environment = {**os.environ, "GRAFTWORK_URL": client.url}
            yield client
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
            client.close()
        self._say(f"SIGTERM: what was accepted is answered, then the server ends with exit code {code}.")

    def _ask(self, model: str, *inputs: str) -> None:
        self._graftwork("predict", model, *inputs, environment=self._environment)

    def _graftwork(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self._command("graftwork", *arguments)
        environment = {**(environment or os.environ), "GRAFTWORK_REPOSITORY": str(self._repository)}
        subprocess.run([*_GRAFTWORK, *arguments], check=True, env=environment)

    def _output(self, *arguments: str) -> str:
        environment = {**os.environ, "GRAFTWORK_REPOSITORY": str(self._repository)}
        return subprocess.run(
            [*_GRAFTWORK, *arguments], check=True, env=environment, stdout=subprocess.PIPE, text=True
        ).stdout

    def _headline(self, text: str) -> None:
        self._step += 1
        self._console.print()
        self._console.rule(f"[bold]{self._step}. {text}", align="left")

    def _say(self, text: str) -> None:
        self._console.print(text, style="cyan", highlight=False, markup=False)

    def _command(self, *words: str) -> None:
        self._console.print(f"$ {shlex.join(words)}", style="bold", highlight=False, markup=False, soft_wrap=True)
        self._console.file.flush()


_GRAFTWORK = [sys.executable, "-m", "graftwork"]


def _outcome(client: Client, model: str, item: str | bytes) -> str:
    """Which version answered, or the error's code."""
    try:
        return f"version {client.predict(model, [item], top_k=1).version}"
    except GraftworkError as error:
        return error.code


def _wait_for(condition: Any, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotReady(f"waited {seconds:g} s in vain")
        time.sleep(0.1)


def _samples(client: Client) -> list[tuple[str, float]]:
    text = client.get("/metrics").decode()
    return [(sample.name, sample.value) for family in text_string_to_metric_families(text) for sample in family.samples]


def _total(samples: list[tuple[str, float]], name: str) -> float:
    return sum(value for found, value in samples if found == name)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
