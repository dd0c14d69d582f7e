"""What must hold after every scenario that sent load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.faults.echo_server import EchoServer
from tests.faults.figure import Figure
from tests.faults.metrics import settled_outcomes
from tests.faults.tally import Tally


def aftermath(
    goal: str,
    server: EchoServer,
    tally: Tally,
    before: Mapping[str, float],
    *,
    may_be: Sequence[int] = (200,),
) -> list[Figure]:
    """Nothing is lost, wrong or of a status that may not be, everything is counted once, and the server is well.

    Args:
        goal: that the figures belong to, but for those of G20.
        server: ready again.
        tally: of the whole load.
        before: `tests.faults.metrics.settled_outcomes` before it; nothing but this load may come between.
        may_be: statuses that are no fault here.

    Raises:
        AssertionError: the two sides count different ends (`Tally.check_conservation`).
    """
    after = settled_outcomes(server.port)
    tally.check_conservation(before, after)
    other = sum(count for status, count in tally.by_status.items() if status not in may_be)
    statuses = "/".join(map(str, may_be))
    return [
        Figure(goal=goal, name="requests", value=tally.sent),
        Figure(goal=goal, name="lost", value=tally.lost + sum(tally.unsent.values()), unit="requests", bar=0),
        Figure(goal=goal, name="wrong", value=tally.wrong + tally.unasked, unit="requests", bar=0),
        Figure(goal=goal, name=f"other than {statuses}", value=other, unit="requests", bar=0),
        Figure(goal=goal, name="503 without Retry-After", value=tally.without_retry_after, unit="requests", bar=0),
        Figure(
            goal="G20", name="requests not counted", value=tally.sent - (after["received"] - before["received"]), bar=0
        ),
        Figure(goal=goal, name="a request afterwards", value=server.answers(), bar=1),
    ]
