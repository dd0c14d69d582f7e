"""A real Prometheus with the shipped rules, whose times are shortened, and what it is asked."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.processes import free_port, wait_for

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = SHIPPED / "rules" / "graftwork.yml"
INTERVAL = "500ms"
WINDOW = "5s"


@dataclass(kw_only=True)
class PrometheusProcess:
    """Prometheus with the shipped configuration, which scrapes one server.

    Args:
        program: Prometheus.
        target: the port of the server.
        key: that may read its metrics.
    """

    program: str
    target: int
    key: str
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gw-test-"))
        (self.directory / "key").write_text(self.key)
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(self._configuration()))
        (self.directory / "rules").mkdir()
        (self.directory / "rules" / RULES.name).write_text(hurried(RULES.read_text()))
        self.log = self.directory / "log"
        options = {
            "config.file": self.directory / "prometheus.yml",
            "storage.tsdb.path": self.directory / "data",
            "web.listen-address": f"127.0.0.1:{self.port}",
            "log.level": "warn",
        }
        with self.log.open("wb") as log:
            command = [self.program, *(f"--{name}={value}" for name, value in options.items())]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(lambda: self._is_ready() or self.process.poll() is not None, 60, self.log.read_text)
        assert self.process.poll() is None, self.log.read_text()

    def _configuration(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
        found["global"] = dict.fromkeys(found["global"], INTERVAL)
        (job,) = found["scrape_configs"]
        job["authorization"]["credentials_file"] = str(self.directory / "key")
        job["static_configs"] = [{"targets": [f"127.0.0.1:{self.target}"]}]
        return found

    def _get(self, path: str, **query: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", f"{path}?{urlencode(query)}")
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _is_ready(self) -> bool:
        with suppress(OSError):
            return self._get("/-/ready")[0] == 200
        return False

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series that an expression gives now."""
        status, body = self._get("/api/v1/query", query=expression)
        assert status == 200, body
        found = json.loads(body)["data"]["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def firing(self) -> dict[str, dict[str, str]]:
        """The labels of one alert of each name that fires."""
        _, body = self._get("/api/v1/alerts")
        alerts = json.loads(body)["data"]["alerts"]
        return {each["labels"]["alertname"]: each["labels"] for each in alerts if each["state"] == "firing"}

    def rule_errors(self) -> list[str]:
        """What went wrong while rules were evaluated."""
        _, body = self._get("/api/v1/rules")
        rules = [rule for group in json.loads(body)["data"]["groups"] for rule in group["rules"]]
        return [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule.get("lastError")]

    def destroy(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.directory)


def hurried(rules: str) -> str:
    """The same rules, which look at seconds where they look at minutes and hours, and wait for one."""
    rules, windows = re.subn(r"\[\d+[mh]\]", f"[{WINDOW}]", rules)
    rules, waits = re.subn(r"for: \d+m\n", "for: 1s\n", rules)
    assert windows > 0
    assert waits > 0
    return rules
