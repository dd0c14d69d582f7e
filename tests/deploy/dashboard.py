"""The shipped dashboard, and what its panels ask Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
FILE = GRAFANA / "dashboard.json"
DASHBOARD: Mapping[str, Any] = json.loads(FILE.read_text())
PANELS: Sequence[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ROWS: Sequence[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]
VARIABLES: Mapping[str, dict[str, Any]] = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
CHOSEN = {"job": "graftwork", "instance": ".+", "model": ".+", "top": "10"}  # of variables


def filled(query: str, window: str = "5m") -> str:
    """A query as Grafana sends it, with everything chosen.

    Args:
        window: what Grafana finds long enough for a rate.

    Raises:
        KeyError: there is no such variable.
    """
    values = {**CHOSEN, "__rate_interval": window}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], query)


def row_of(panel: Mapping[str, Any]) -> str:
    """The title of the row that a panel is in."""
    above = [row for row in ROWS if row["gridPos"]["y"] < panel["gridPos"]["y"]]
    title: str = max(above, key=lambda row: row["gridPos"]["y"])["title"]
    return title
