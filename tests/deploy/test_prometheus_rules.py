"""deploy/prometheus: its rules name what there is, do what they say, and each alert says what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from service.api.request_counts import OUTCOMES, SECONDS
from tests.deploy.measured import TRITON
from tests.deploy.prometheus_process import RULES, SHIPPED
from tests.deploy.prometheus_rules import ALERTS, ALL, RECORDS, with_records
from tests.deploy.promql import Labels, result_labels

README = (SHIPPED / "README.md").read_text()
TESTS = sorted((SHIPPED / "tests").glob("*.yml"))
ROOT = SHIPPED.parents[1]


def test_rules_read_metrics_and_labels_that_a_server_has(measured: Mapping[str, Labels]) -> None:
    known = with_records(measured)
    for name, rule in ALERTS.items():
        labels = result_labels(rule["expr"], known)
        assert labels is not None
        said = re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))
        assert set(said) <= labels, name


def test_rules_record_under_the_labels_of_their_names(measured: Mapping[str, Labels]) -> None:
    known = with_records(measured)
    for name in RECORDS:
        level, metric, operation = name.split(":")
        assert set(level.split("_")) | {"job"} == known[name], name
        assert metric.startswith("graftwork_")
        assert operation


def test_they_know_the_outcomes_and_the_bounds_of_a_server() -> None:
    text = RULES.read_text()
    named = {outcome for found in re.findall(r'outcome[=!]~?"([^"]+)"', text) for outcome in found.split("|")}
    assert named == set(OUTCOMES) - {"ok"}
    bounds = set(re.findall(r'le="([^"]+)"', text))
    assert bounds
    assert bounds <= set(map(str, SECONDS))


def test_every_alert_says_how_bad_it_is_what_it_means_and_what_to_do() -> None:
    headings = [line.removeprefix("### ") for line in README.splitlines() if line.startswith("### ")]
    assert headings == list(ALERTS)
    for name, rule in ALERTS.items():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"deploy/prometheus/README.md#{name.lower()}"
        assert name.startswith("Graftwork")
    assert len(ALL) == len(ALERTS) + len(RECORDS)  # no name twice


def test_every_alert_has_a_test_where_it_fires_and_one_where_it_does_not() -> None:
    cases: Counter[tuple[str, bool]] = Counter()
    for file in TESTS:
        for test in yaml.safe_load(file.read_text())["tests"]:
            for case in test.get("alert_rule_test", []):
                cases[case["alertname"], bool(case["exp_alerts"])] += 1
    assert {(name, fires) for name in ALERTS for fires in (True, False)} == set(cases)


def test_every_record_has_a_test() -> None:
    texts = "".join(file.read_text() for file in TESTS)
    of_alerts = {name for name in RECORDS if any(name in rule["expr"] for rule in ALERTS.values())}
    of_records = {name for name in RECORDS if any(name in rule["expr"] for rule in RECORDS.values())}
    assert {name for name in RECORDS if name not in texts} <= of_alerts | of_records


def test_promtool_finds_nothing_wrong(promtool: str, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "prometheus")
    key = tmp_path / "key"
    key.touch()
    configuration = tmp_path / "prometheus" / "prometheus.yml"
    text = configuration.read_text()
    assert text.count("/run/secrets/graftwork-key") == 1
    configuration.write_text(text.replace("/run/secrets/graftwork-key", str(key)))
    checked = subprocess.run(
        [promtool, "check", "config", "--lint-fatal", configuration], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(ALL)} rules found" in checked.stdout


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_promtool_sees_rules_do_what_they_say(promtool: str, file: Path) -> None:
    tested = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_documents_name_metrics_that_a_server_has(measured: Mapping[str, Labels]) -> None:
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in measured} | set(measured)
    documents = [*ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    said = {name for file in documents for name in re.findall(r"`((?:graftwork|nv)_\w+)(?!\w*\*)", file.read_text())}
    assert {"graftwork_requests_total", "nv_inference_count"} <= said
    assert any(name.startswith(TRITON) for name in measured)
    assert said <= families | set(RECORDS)
