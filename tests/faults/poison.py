"""Rows that end the worker which computes or decodes them, and rows that need more memory than there is.

* `poison` (L03): such a row is tried at most twice and then refused with 422 ``worker_crashed``, whenever it comes again.
  Those that shared its batch are tried alone, and answered where a worker lives. Where none does, 503 tells clients to come
  back; those of the poison do so here, and it still takes no more than two deaths.
* `too_little_memory` (L06): a batch that does not fit is split until its parts do, and a row that does not fit alone is refused
  with 503 ``out_of_memory``. No worker ends, and no other row notices.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Sequence
from hashlib import sha256

from tests.faults.aftermath import aftermath
from tests.faults.echo_server import EchoServer, echo_server
from tests.faults.figure import Figure
from tests.faults.load import LoadProcess, run_load
from tests.faults.metrics import metrics, settled_outcomes, total
from tests.faults.request import request
from tests.faults.tally import Tally
from tests.processes import wait_for
from tests.server_process import Reply, json_body

POISONS = ("crash", "segfault")  # while it is computed, while it is decoded
BATCH = 8
GIVE_UP_SECONDS = 60.0


def poison(*, workers: int, rounds: int = 5, kinds: Sequence[str] = POISONS) -> list[Figure]:
    """Poison among good rows: alone, in a list with good ones, and again when it is known.

    Args:
        workers: how many there are. The two deaths that a poison takes may be those of all workers where there are one or
            two: then good rows get 503 until one is back. With three, all of them must be answered.
        rounds: how often each kind is sent, each time as new rows.
        kinds: ``crash``, ``segfault``.
    """
    deaths_by_one: list[float] = []
    deaths_by_known = 0.0
    poisons, known = Tally(), Tally()
    with echo_server(delay=0.02, workers=workers) as server:
        wait_for_workers(server, workers)
        before = settled_outcomes(server.port)
        with LoadProcess(server.port, rate=100, seconds=rounds * GIVE_UP_SECONDS) as load:
            for number in range(rounds):
                for kind in kinds:
                    alone = [f"{kind} {number}"]
                    in_a_list = [f"good {kind}", f"{kind} {number} in a list", f"better {kind}"]
                    for texts in (alone, in_a_list):
                        deaths = count_deaths(server)
                        poisons = poisons.merge(insist(server, texts))
                        wait_for_workers(server, workers)
                        deaths_by_one.append(count_deaths(server) - deaths)
                    deaths = count_deaths(server)
                    for texts in (alone, in_a_list):
                        known = known.merge(ask(server, texts))
                    deaths_by_known += count_deaths(server) - deaths
            load.stop()
            good = load.tally(GIVE_UP_SECONDS)
        may_be = (200, 422) if workers > 2 else (200, 422, 503)
        count = len(deaths_by_one)
        return [
            Figure(goal="L03", name="workers", value=workers),
            Figure(goal="L03", name="poisons", value=count),
            Figure(goal="L03", name="poisons refused with 422", value=poisons.codes["worker_crashed"], bar=count),
            Figure(goal="L03", name="known poisons refused with 422", value=known.codes["worker_crashed"], bar=count),
            Figure(goal="L03", name="deaths by one poison, most", value=max(deaths_by_one), relation="<=", bar=2),
            Figure(goal="L03", name="deaths by known poison", value=deaths_by_known, bar=0),
            Figure(goal="L03", name="good requests with 422", value=good.client_errors, bar=0),
            Figure(
                goal="L03", name="good requests with 503", value=good.by_status[503], bar=0 if workers > 2 else None
            ),
            *aftermath("L03", server, good.merge(poisons).merge(known), before, may_be=may_be),
            Figure(goal="L03", name="deaths in the end", value=count_deaths(server), bar=sum(deaths_by_one)),
        ]


def too_little_memory(*, rounds: int = 20) -> list[Figure]:
    """Batches that do not fit, as wholes or because of one row.

    Args:
        rounds: how often each kind is sent.
    """
    pairs = refused = most_innocents = wrong_ends = asked = 0
    with echo_server(max_batch_rows=BATCH) as server:
        for number in range(rounds):
            pairs += server.predict("echo", [f"fat {number}", f"fat too {number}"]).status == 200
            mates = ["slow", *(f"good {number} {mate}" for mate in range(BATCH - 1))]
            first, obese, *rest = ask_together(server, [mates[0], f"obese {number}", *mates[1:]])
            replies = [first, *rest]
            refused += is_refusal(obese)
            innocents = sum(map(is_refusal, replies))
            most_innocents = max(most_innocents, innocents)
            wrong_ends += len(mates) - innocents - sum(map(is_answer, replies, mates))
            asked += 2 + len(mates)
        counted = settled_outcomes(server.port)
        return [
            Figure(goal="L06", name="pairs too large together, answered", value=pairs, bar=rounds),
            Figure(goal="L06", name="rows too large alone, refused with 503", value=refused, bar=rounds),
            Figure(goal="L06", name="mates refused with one of them, most", value=most_innocents, bar=0),
            Figure(goal="L06", name="mates with another end", value=wrong_ends, unit="rows", bar=0),
            Figure(goal="L06", name="deaths", value=count_deaths(server), bar=0),
            Figure(goal="G20", name="requests not counted", value=asked - counted["received"], bar=0),
            Figure(goal="L06", name="a request afterwards", value=server.answers(), bar=1),
        ]


def ask_together(server: EchoServer, texts: Sequence[str]) -> list[Reply]:
    """Sends a request for each text before it reads the first answer."""
    connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=30) for _ in texts]
    for connection, text in zip(connections, texts, strict=True):
        connection.request("POST", "/v1/models/echo:predict", json_body([text]))
    replies = []
    for connection in connections:
        response = connection.getresponse()
        replies.append(
            Reply(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                body=response.read(),
            )
        )
        connection.close()
    return replies


def ask(server: EchoServer, texts: Sequence[str]) -> Tally:
    """Sends one request on a fresh connection."""
    return run_load(server.port, connections=1, requests=1, make=lambda _: request(texts))


def insist(server: EchoServer, texts: Sequence[str]) -> Tally:
    """Sends a request again while it gets 503, without much of a pause."""
    tally = ask(server, texts)
    give_up_at = time.monotonic() + GIVE_UP_SECONDS
    while tally.ends[-1] == 503 and time.monotonic() < give_up_at:
        time.sleep(0.1)
        tally = tally.merge(ask(server, texts))
    return tally


def wait_for_workers(server: EchoServer, count: int) -> None:
    """Until so many are connected, have loaded everything, and all deaths before are known."""

    def are_there() -> bool:
        found = metrics(server.port)
        return total(found, "graftwork_workers") == count == len(found.get("graftwork_queue_depth_rows", {}))

    wait_for(are_there, GIVE_UP_SECONDS, server.text)
    server.wait_until_ready(GIVE_UP_SECONDS)


def count_deaths(server: EchoServer) -> float:
    """How many workers have died so far."""
    return total(metrics(server.port), "graftwork_worker_deaths_total")


def is_answer(reply: Reply, text: str) -> bool:
    """Whether it is the right one."""
    label = sha256(text.encode()).hexdigest()
    return reply.status == 200 and [each["label"] for each in reply.json()["predictions"]] == [label]


def is_refusal(reply: Reply) -> bool:
    """Whether there was too little memory."""
    return reply.status == 503 and reply.json()["code"] == "out_of_memory" and int(reply.headers["retry-after"]) >= 1
