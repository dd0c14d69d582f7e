"""deploy/grafana: the dashboard asks for what there is, and is where Grafana looks for it."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.deploy.dashboard import CHOSEN, DASHBOARD, FILE, GRAFANA, PANELS, ROWS, VARIABLES, filled, row_of
from tests.deploy.measured import OF_A_TARGET
from tests.deploy.prometheus_rules import with_records
from tests.deploy.promql import Labels, PromqlError, result_labels

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
QUERIES = [
    pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
# Of one request, the server counts both ends; the dashboard shows the other one.
NOT_SHOWN = {"graftwork_received_requests"}


def test_the_file_is_what_json_dumps_writes() -> None:
    assert FILE.read_text() == json.dumps(DASHBOARD, indent=2, ensure_ascii=False) + "\n"
    assert DASHBOARD["schemaVersion"] == 41  # Grafana 12.0; later ones read it
    assert DASHBOARD["uid"] == "graftwork"


def test_panels_neither_share_a_name_nor_a_place() -> None:
    everything = DASHBOARD["panels"]
    ids = [panel["id"] for panel in everything]
    assert len(set(ids)) == len(ids)
    assert max(Counter((row_of(panel), panel["title"]) for panel in PANELS).values()) == 1
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        at = panel["gridPos"]
        place = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in place) < 24
        assert not place & taken, panel["title"]
        taken |= place
    order = [(panel["gridPos"]["y"], panel["gridPos"]["x"]) for panel in everything]
    assert order == sorted(order)


def test_there_is_a_row_for_each_concern() -> None:
    wanted = ["Overview", "Latency", "Batches", "Models", "Room", "Workers", "Memory", "GPUs", "Triton"]
    assert [row["title"].split()[0].rstrip(",") for row in ROWS] == wanted
    assert {row_of(panel) for panel in PANELS} == {row["title"] for row in ROWS}
    assert {"heatmap", "stat", "timeseries", "table"} == {panel["type"] for panel in PANELS}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_says_what_it_shows_in_which_unit_and_of_which_prometheus(panel: dict[str, object]) -> None:
    assert panel["datasource"] == DATASOURCE
    assert str(panel["description"]).endswith(".")
    defaults = panel["fieldConfig"]["defaults"]  # type: ignore[index]
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"][0]["value"] is None
    targets = panel["targets"]
    assert isinstance(targets, list)
    assert targets
    assert len({target["refId"] for target in targets}) == len(targets)
    for target in targets:
        assert target["datasource"] == DATASOURCE
        assert target["expr"]


@pytest.mark.parametrize(("expression", "legend"), QUERIES)
def test_every_query_names_what_a_server_has(measured: Mapping[str, Labels], expression: str, legend: str) -> None:
    labels = result_labels(filled(expression), with_records(measured)) or set()
    assert set(re.findall(r"{{(\w+)}}", legend)) <= labels


def test_a_query_for_what_no_server_has_is_found(measured: Mapping[str, Labels]) -> None:
    for expression in ("sum(rate(graftwork_request_total[5m]))", 'graftwork_ready{model=~"$model"}'):
        with pytest.raises(PromqlError):
            result_labels(filled(expression), with_records(measured))


def test_every_metric_of_a_server_is_shown(measured: Mapping[str, Labels]) -> None:
    shown = " ".join(expression for expression, _ in (param.values for param in QUERIES))
    ours = {re.sub("_(bucket|sum|count|total)$", "", name) for name in measured if name.startswith("graftwork_")}
    assert {name for name in ours if name not in shown} == NOT_SHOWN


def test_queries_choose_by_every_variable(measured: Mapping[str, Labels]) -> None:
    """A panel that overlooks what was chosen above would show something else than its neighbours."""
    known = with_records(measured)
    for param in QUERIES:
        expression = str(param.values[0])
        for name, selected in re.findall(r"\b((?:\w+:)?graftwork_\w+(?::\w+)?)(?:{([^}]*)})?", expression):
            if name in known:
                for label in {"job", "instance", "model"} & known[name]:
                    assert f'{label}=~"${label}"' in selected, expression


def test_variables_offer_what_servers_have(measured: Mapping[str, Labels]) -> None:
    assert set(VARIABLES) == {"datasource", *CHOSEN}
    assert VARIABLES["datasource"]["query"] == "prometheus"
    text = FILE.read_text()
    for name, variable in VARIABLES.items():
        assert f"${name}" in text or f"${{{name}}}" in text
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", filled(variable["query"]["query"]))
            assert found is not None
            assert found[2] == name
            assert name in (result_labels(found[1], measured) or ())
    for annotation in DASHBOARD["annotations"]["list"]:
        assert result_labels(filled(annotation["expr"]), measured) == OF_A_TARGET


def test_all_jobs_are_all_that_are_servers() -> None:
    """`up` and `process_...` are of everything that Prometheus scrapes: only the names of the jobs tell ours apart."""
    assert VARIABLES["job"]["includeAll"] is True
    assert "allValue" not in VARIABLES["job"]  # Grafana then takes every name that it offers
    assert {name for name, variable in VARIABLES.items() if "allValue" in variable} == {"instance", "model"}
    for expression, _ in (param.values for param in QUERIES):
        for selected in re.findall(r"\b(?:up|process_\w+){([^}]*)}", str(expression)):
            assert 'job=~"$job"' in selected, expression


def test_promtool_reads_every_query(promtool: str, tmp_path: Path) -> None:
    rules = [{"record": f"query_{n}", "expr": filled(str(param.values[0]))} for n, param in enumerate(QUERIES)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_is_provisioned() -> None:
    (datasource,) = yaml.safe_load((GRAFANA / "provisioning/datasources/graftwork.yml").read_text())["datasources"]
    assert (datasource["type"], datasource["isDefault"]) == ("prometheus", True)
    configuration = yaml.safe_load((GRAFANA.parent / "prometheus" / "prometheus.yml").read_text())
    assert datasource["jsonData"]["timeInterval"] == configuration["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/graftwork.yml").read_text())["providers"]
    assert provider["type"] == "file"
    assert provider["options"] == {"path": "/var/lib/grafana/dashboards"}
