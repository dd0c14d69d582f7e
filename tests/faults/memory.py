"""Memory: what passes through a server leaves nothing behind, however it was meant (G10, G11, G12).

``mixed_requests``: growth over many requests of all kinds, and its slope; a server that leaks misses the bar.
``chunks`` and ``malformed_requests``: growth over what is made to cost more than it should.
``bombs`` and ``image_bomb``: small requests that stand for something huge; how long they take, and the peak meanwhile.
"""

from __future__ import annotations

import gzip
import http.client
import socket
import statistics
import struct
import tempfile
import time
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from scipy.stats import linregress, ttest_1samp

from finetune.importing import import_checkpoint
from models.repository import ModelRepository
from service.http.limits import ConnectionLimits
from tests.faults.echo_server import echo_server
from tests.faults.figure import Figure
from tests.faults.footprint import MEBI, Peak, footprint, warm_up
from tests.faults.load import run_load
from tests.faults.metrics import settled_outcomes
from tests.faults.mixture import MALFORMED, Mixture, post, refused
from tests.faults.tally import Tally
from tests.server_process import Reply, ServerProcess, ready_server
from tests.tiny_models import TorchEngines, write_tiny_vision

CONNECTIONS = 32
SAMPLES = 10
MIXED_WARM_UP = 30_000  # requests; memory rises by 1.5 MiB during the first 20,000, and stays there


def mixed_requests(*, requests: int = 50_000, leak: int = 0) -> list[Figure]:
    """Good, bad, large, late and abandoned requests, and what remains of them.

    Args:
        requests: after those for warming up.
        leak: bytes a row that the server keeps for ever, to show that it would be seen.
    """
    each = requests // SAMPLES
    with echo_server(leak=leak) as server:
        make, tally = Mixture(), Tally()
        warm_up(server)
        run_load(server.port, connections=CONNECTIONS, requests=MIXED_WARM_UP, make=make)
        sizes, files = [footprint(server).memory], footprint(server).files
        for _ in range(SAMPLES):
            tally = tally.merge(run_load(server.port, connections=CONNECTIONS, requests=each, make=make))
            settled_outcomes(server.port)
            sizes.append(footprint(server).memory)
        steps = [after - before for before, after in pairwise(sizes)]
        slope = linregress([number * each for number in range(SAMPLES + 1)], sizes).slope
        left = footprint(server).files - files
        return [
            Figure(goal="G10", name="requests", value=tally.sent, unit="requests", bar=SAMPLES * each),
            Figure(goal="G10", name="lost or wrong", value=tally.lost + tally.wrong, unit="requests", bar=0),
            Figure(
                goal="G10",
                name="growth of memory",
                value=(sizes[-1] - sizes[0]) / MEBI,
                unit="MiB",
                relation="<=",
                bar=20,
            ),
            Figure(goal="G10", name="slope", value=slope * 1e6 / MEBI, unit="MiB per million requests"),
            Figure(  # from the steps: each size depends on the one before, and a single step up is no slope
                goal="G10",
                name="chance of such steps without growth",
                value=float(ttest_1samp(steps, 0, alternative="greater").pvalue),
                relation=">=",
                bar=0.001,
            ),
            Figure(goal="G10", name="open files left", value=left, unit="files", relation="<=", bar=0),
            Figure(goal="G10", name="a request afterwards", value=server.answers(), bar=1),
        ]


def chunks(*, requests: int = 100, count: int = 1_000_000) -> list[Figure]:
    """Bodies in chunks of one byte: as many as there may be, and far more.

    Args:
        requests: of either kind.
        count: chunks of a request that has too many.
    """
    allowed = ConnectionLimits().max_chunks - 1  # the last one, which is empty, counts too
    within, beyond = chunked(allowed), chunked(count)
    with echo_server() as server:
        warm_up(server)
        for data in (within, beyond) * 3:
            answer_to(server, data)
        received, before = settled_outcomes(server.port)["received"], footprint(server)
        statuses = Counter(answer_to(server, data).status for data in (within, beyond) * requests)
        growth = footprint(server).growth(before)
        counted = settled_outcomes(server.port)["received"] - received
        return [
            Figure(goal="H03", name=f"{allowed:,} chunks: answered", value=statuses[200], bar=requests),
            Figure(goal="H03", name=f"{count:,} chunks: refused with 413", value=statuses[413], bar=requests),
            growth_figure("growth of memory over both", growth.memory, 1),
            Figure(goal="G11", name="open files left", value=growth.files, relation="<=", bar=0),
            Figure(goal="G20", name="requests not counted", value=2 * requests - counted, bar=0),
            Figure(goal="G11", name="a request afterwards", value=server.answers(), bar=1),
        ]


def malformed_requests(*, each: int = 10_000) -> list[Figure]:
    """Requests that are wrong in every way there is.

    Args:
        each: how many of each kind.
    """
    growths: dict[str, int] = {}
    unexpected = 0
    with echo_server() as server:
        warm_up(server)
        for data, _ in MALFORMED.values():
            ask_again_and_again(server, data, 200)
        start = footprint(server)
        for name, (data, status) in MALFORMED.items():
            before = footprint(server).memory
            tally = ask_again_and_again(server, data, each)
            unexpected += tally.sent - tally.by_status[status]
            growths[name] = footprint(server).memory - before
        growth = footprint(server).growth(start)
        settled_outcomes(server.port)
        worst = max(growths, key=growths.__getitem__)
        return [
            Figure(goal="G11", name="kinds of malformed requests", value=len(MALFORMED)),
            Figure(goal="G11", name="with another status than theirs", value=unexpected, unit="requests", bar=0),
            growth_figure(f"growth of memory over {worst} (the worst kind)", growths[worst], 5),
            growth_figure("growth of memory over all kinds", growth.memory, 5),
            Figure(goal="G11", name="open files left", value=growth.files, unit="files", relation="<=", bar=0),
            Figure(goal="G11", name="a request afterwards", value=server.answers(), bar=1),
        ]


def bombs(*, times: int = 20) -> list[Figure]:
    """JSON that is nested 250,000 deep, and ten megabytes of zeros in a compressed body.

    Args:
        times: that each is sent.
    """
    deep = post(b"[" * 250_000)
    compressed = gzip.compress(bytes(10 * MEBI))
    bomb = post(compressed, b"Content-Encoding: gzip")
    with echo_server() as server:
        warm_up(server)
        before = settled_outcomes(server.port)["client_error"]
        figures = [
            *explode(server, "JSON nested 250,000 deep", deep, 400, times),
            *explode(server, f"gzip {10 * MEBI // len(compressed):,}:1", bomb, 415, times),
        ]
        refused_ones = settled_outcomes(server.port)["client_error"] - before
        return [
            *figures,
            Figure(goal="G20", name="counted as client errors", value=refused_ones, bar=2 * (times + 1)),
            Figure(goal="G12", name="a request afterwards", value=server.answers(), bar=1),
        ]


def image_bomb(*, times: int = 20) -> list[Figure]:
    """A PNG of 50,000 x 50,000 pixels in 300 KB, to a real image model.

    Args:
        times: that it is sent.
    """
    picture = png_of_zeros(50_000)
    path = b"/v1/models/colours:predict"
    data = post(picture, media_type=b"image/png").replace(b"/v1/models/echo:predict", path)
    with image_server() as server:
        figures = explode(server, f"PNG of 50,000 x 50,000 in {len(picture) >> 10} KiB", data, 413, times)
        answered = server.predict("colours", [{"b64": b64encode(png_of_zeros(100)).decode()}]).status
    return [*figures, Figure(goal="G12", name="status of a request afterwards", value=answered, bar=200)]


def explode(server: ServerProcess, name: str, data: bytes, status: int, times: int) -> list[Figure]:
    """Sends a bomb again and again, after a first time that does not count."""
    answer_to(server, data)
    peak, seconds, statuses = Peak(server), [], []
    for _ in range(times):
        started = time.monotonic()
        statuses.append(answer_to(server, data).status)
        seconds.append(time.monotonic() - started)
    return [
        Figure(goal="G12", name=f"{name}: answered {status}", value=statuses.count(status), bar=times),
        Figure(
            goal="G12",
            name=f"{name}: median time",
            value=statistics.median(seconds) * 1000,
            unit="ms",
            relation="<=",
            bar=50,
        ),
        Figure(goal="G12", name=f"{name}: peak", value=peak.rise() / MEBI, unit="MiB", relation="<=", bar=20),
    ]


def growth_figure(name: str, size: int, most: float) -> Figure:
    return Figure(goal="G11", name=name, value=size / MEBI, unit="MiB", relation="<=", bar=most)


def ask_again_and_again(server: ServerProcess, data: bytes, requests: int) -> Tally:
    return run_load(server.port, connections=8, requests=requests, make=lambda _: refused(data))


def chunked(count: int) -> bytes:
    """A request with a text of so many bytes, each in a chunk of its own."""
    head = post(b"", media_type=b"text/plain").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    return head + b"1\r\nx\r\n" * count + b"0\r\n\r\n"


def answer_to(server: ServerProcess, data: bytes) -> Reply:
    """The answer to bytes that are one request."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(data)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return Reply(status=response.status, headers=dict(response.getheaders()), body=response.read())


def png_of_zeros(side: int) -> bytes:
    """A whole black and white PNG, all black."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    deflate = zlib.compressobj(9)
    row = bytes(1 + -(-side // 8))
    pixels = b"".join(deflate.compress(row * 100) for _ in range(side // 100)) + deflate.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", pixels) + part(b"IEND", b"")


@contextmanager
def image_server() -> Iterator[ServerProcess]:
    """A server of a tiny real image model, ``colours``."""
    with tempfile.TemporaryDirectory(prefix="gw-test-") as directory:
        (checkpoint := Path(directory, "checkpoint")).mkdir()
        repository = ModelRepository(Path(directory, "repository"))
        import_checkpoint(repository, write_tiny_vision(checkpoint), "colours", TorchEngines())
        with ready_server(repository.root) as server:
            yield server
