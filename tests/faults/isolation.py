"""Batch mates: rows that share a batch with bad ones are answered as if they were alone (G14, T10).

Each time, one slow request keeps the device busy while eight more are sent, so that those share the next batch. Each harmful
one of the eight is refused while it is decoded (``bad``), or makes the engine raise for the whole batch (``bug``). All 2^8
patterns of harmful ones are tried.
"""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Sequence

from tests.faults.echo_server import EchoServer, echo_server
from tests.faults.figure import Figure
from tests.faults.metrics import metrics, settled_outcomes, total
from tests.server_process import Reply, json_body

BATCH = 8
BAD, BUG = "bad", "bug"
STATUS = {BAD: 422, BUG: 500}
CODE = {BAD: "empty_text", BUG: "internal"}
TRIES = 20


class Mates:
    """Clients that ask at once, each on a connection of its own that stays open; the first keeps the device busy."""

    def __init__(self, server: EchoServer) -> None:
        self._port = server.port
        self._connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=30) for _ in range(BATCH + 1)]
        self.asked = 0

    def ask(self, instances: Sequence[Sequence[str]]) -> list[Reply]:
        """The replies to requests that share a batch, one for each list of texts."""
        for connection, texts in zip(self._connections, [["slow"], *instances], strict=False):
            connection.request("POST", "/v1/models/echo:predict", json_body(texts))
            self.asked += 1
        responses = [connection.getresponse() for connection in self._connections[: len(instances) + 1]]
        replies = [
            Reply(status=response.status, headers=dict(response.getheaders()), body=response.read())
            for response in responses
        ]
        assert replies[0].status == 200, replies[0].body
        return replies[1:]

    def ask_in_one_batch(self, instances: Sequence[Sequence[str]], harms: Sequence[str]) -> tuple[list[Reply], bool]:
        """The replies, and whether all really were in one batch: on a busy machine that takes more than one try."""
        for _ in range(TRIES):
            before = self.batches()
            replies = self.ask(instances)
            if self.batches() - before == 1 + batches_of(harms):  # the first is that of the slow one
                return replies, True
        return replies, False

    def batches(self) -> int:
        """How many were computed so far."""
        return int(total(metrics(self._port), "graftwork_batch_size_rows_count"))

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def batch_patterns(*, kinds: Sequence[str] = ("mixed",)) -> list[Figure]:
    """All 2^8 patterns of harmful rows in a batch of eight.

    Args:
        kinds: of harm: ``bad``, ``bug``, or ``mixed``, where these take turns; each is tried with all patterns.
    """
    texts = [f"text {row}" for row in range(BATCH)]
    wrong_ends = different = shared = 0
    with echo_server(max_batch_rows=BATCH) as server:
        alone = [predictions(server.predict("echo", [text])) for text in texts]
        mates = Mates(server)
        for kind in kinds:
            for pattern in range(2**BATCH):
                harm = {row: harm_of(kind, row, pattern) for row in range(BATCH) if pattern >> row & 1}
                asked_for = [[harm.get(row, "") + text] for row, text in enumerate(texts)]
                replies, together = mates.ask_in_one_batch(asked_for, list(harm.values()))
                shared += together
                for row, reply in enumerate(replies):
                    if row not in harm:
                        wrong_ends += reply.status != 200
                        different += predictions(reply) != alone[row]
                    else:
                        wrong_ends += (reply.status, reply.json()["code"]) != (STATUS[harm[row]], CODE[harm[row]])
        mates.close()
        tried = len(kinds) * 2**BATCH
        counted = settled_outcomes(server.port)
        return [
            Figure(goal="G14", name="patterns of harmful rows in one batch of 8", value=shared, bar=tried),
            Figure(goal="G14", name="rows with an end that is not theirs", value=wrong_ends, unit="rows", bar=0),
            Figure(goal="G14", name="good rows not bit-equal to unbatched", value=different, unit="rows", bar=0),
            Figure(goal="G20", name="requests not counted", value=mates.asked + BATCH - counted["received"], bar=0),
            Figure(goal="G14", name="a request afterwards", value=server.answers(), bar=1),
        ]


def harm_of(kind: str, row: int, pattern: int) -> str:
    """What a harmful row does."""
    return (BAD, BUG)[(row + pattern.bit_count()) % 2] if kind == "mixed" else kind


def batches_of(harms: Sequence[str]) -> int:
    """In how many batches the good ones of rows are computed that came into one: if that fails, each is tried alone."""
    count = Counter(harms)
    good = BATCH - len(harms)
    return good if count[BUG] and good + count[BUG] > 1 else min(good, 1)


def mixed_lists(*, rounds: int = 8) -> list[Figure]:
    """A list with one harmful row fails whole, and says which row; lists that share its batch do not.

    Args:
        rounds: how often each kind of harm is tried, the harmful row each time in another place.
    """
    wrong_ends = different = unnamed = asked = 0
    with echo_server(max_batch_rows=BATCH * 4) as server:
        mates = Mates(server)
        lists = [[f"text {number} {row}" for row in range(4)] for number in range(BATCH)]
        alone = [predictions(server.predict("echo", texts)) for texts in lists]
        for harm in (BAD, BUG):
            for place in range(rounds):
                victim, row = place % BATCH, place % 4
                asked_for = [list(texts) for texts in lists]
                asked_for[victim][row] = harm
                for number, reply in enumerate(mates.ask(asked_for)):
                    if number != victim:
                        wrong_ends += reply.status != 200
                        different += predictions(reply) != alone[number]
                    else:
                        wrong_ends += (reply.status, reply.json()["code"]) != (STATUS[harm], CODE[harm])
                        unnamed += harm == BAD and f"instance {row}" not in reply.json()["detail"]
        mates.close()
        counted = settled_outcomes(server.port)
        asked = mates.asked + len(lists)
        return [
            Figure(goal="T10", name="lists with an end that is not theirs", value=wrong_ends, unit="lists", bar=0),
            Figure(goal="T10", name="good lists not bit-equal to unbatched", value=different, unit="lists", bar=0),
            Figure(goal="T10", name="bad rows that were not named", value=unnamed, unit="rows", bar=0),
            Figure(goal="G20", name="requests not counted", value=asked - counted["received"], bar=0),
            Figure(goal="T10", name="a request afterwards", value=server.answers(), bar=1),
        ]


def predictions(reply: Reply) -> bytes:
    """Those of a reply, as they are written in it; nothing where it has none."""
    if reply.status != 200:
        return b""
    start, end = reply.body.index(b"["), reply.body.rindex(b"]")
    json.loads(reply.body[start : end + 1])
    return reply.body[start : end + 1]
