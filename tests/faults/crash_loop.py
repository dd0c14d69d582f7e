"""A worker that cannot start, ever (L07): the server lives, is not ready and says why, and tries again less and less often."""

from __future__ import annotations

import re
import signal
import time

from service.restart import Restart
from tests.faults.echo_server import echo_server
from tests.faults.figure import Figure
from tests.faults.metrics import metrics, total
from tests.faults.remains import figures_of, remains_of
from tests.processes import wait_for

GIVE_UP_SECONDS = 60.0
MOST_PROCESSES = 4  # parent, API process, worker, and the one that cleans up for multiprocessing


def worker_that_cannot_start(*, deaths: int = 9, slack: float = 1.0) -> list[Figure]:
    """A worker whose every start fails, watched until it has died so often, and then the end of the server.

    Args:
        deaths: after which the server is told to end.
        slack: factor on bars on times.
    """
    died: list[float] = []
    processes = not_live = 0
    with echo_server(broken=True, ready=False) as server:
        wait_for(lambda: server.status_of("/health/live") == 200, GIVE_UP_SECONDS, server.text)
        give_up_at = time.monotonic() + deaths * GIVE_UP_SECONDS
        while len(died) < deaths and time.monotonic() < give_up_at:
            counted = int(total(metrics(server.port), "graftwork_worker_deaths_total"))
            died += [time.monotonic()] * (counted - len(died))
            not_live += server.status_of("/health/live") != 200
            processes = max(processes, len(server.survivors()))
            time.sleep(0.05)
        ready, predict = server.request("GET", "/health/ready"), server.predict("echo", ["anybody?"])
        said = re.search(r"it died (\d+) times in a row", ready.json()["detail"])
        server.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        code = server.process.wait(GIVE_UP_SECONDS)
        ended_after = time.monotonic() - told
        remains = remains_of(server)
        told_why = [r for r in server.records() if "this worker cannot start" in r.get("traceback", "")]
        least = min(Restart.MOST_SECONDS, Restart.FIRST_SECONDS * 2 ** (deaths - 2))
        return [
            Figure(goal="L07", name="starts that failed", value=len(died), relation=">=", bar=deaths),
            Figure(goal="L07", name="from the first to the second", value=died[1] - died[0], unit="s"),
            Figure(goal="L07", name="before the last", value=died[-1] - died[-2], unit="s", relation=">=", bar=least),
            Figure(goal="L07", name="processes, most", value=processes, relation="<=", bar=MOST_PROCESSES),
            Figure(goal="L07", name="times not live", value=not_live, bar=0),
            Figure(goal="L07", name="status of readiness", value=ready.status, bar=503),
            Figure(
                goal="L07",
                name="deaths in a row, as it says",
                value=int(said[1]) if said else 0,
                relation=">=",
                bar=deaths,
            ),
            Figure(goal="L07", name="status of a prediction", value=predict.status, bar=503),
            Figure(goal="L07", name="times that the log says why", value=len(told_why), relation=">=", bar=deaths),
            Figure(goal="L07", name="exit code after SIGTERM", value=code, bar=0),
            Figure(goal="L07", name="end after SIGTERM", value=ended_after, unit="s", relation="<=", bar=3 * slack),
            *figures_of("L07", [remains], slack=slack),
        ]
