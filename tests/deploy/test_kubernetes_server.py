"""The manifests and a real server: arguments, probes, times, metric and keys are those that it has."""

from __future__ import annotations

import math
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.auth.key import Scope
from service.auth.key_file import KeyFile
from tests.deploy.command_line import parsed
from tests.deploy.container import DOCKERFILE, instructions
from tests.deploy.manifests import KUBERNETES, Document, built, main_container, named, pod_templates, read
from tests.processes import wait_for
from tests.server_process import ready_server, samples
from tests.service.guarded import Guarded, bearer
from tests.tiny_models import copy_of_texts

METRICS = {"graftwork_queue_depth_rows": {("0",): 0.0}, "graftwork_in_flight_rows": {(): 0.0}}  # of a server that idles


@pytest.fixture(scope="module")
def guarded(models_on_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server that asks for keys."""
    root = tmp_path_factory.mktemp("guarded")
    copy_of_texts(models_on_disk, root / "repository")
    file = KeyFile(root / "keys.json")
    file.create("first", [Scope.ADMIN])
    with ready_server(root / "repository", "--keys", str(root / "keys.json")) as server:
        found = Guarded(server, file)
        wait_for(lambda: found.ask(bearer(found.predict)).status == 200, 10, server.text)
        yield found


def server_of(documents: Any) -> Document:
    template = pod_templates(documents)["graftwork"]
    return {"template": template, "container": main_container(template)}


def serve(documents: Any) -> Mapping[str, Any]:
    """The options that the server is started with."""
    arguments = server_of(documents)["container"]["args"]
    return parsed(arguments)


def ports(container: Document) -> Mapping[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def test_the_server_binds_the_ports_that_are_declared_and_that_the_image_exposes() -> None:
    values = serve(read("base"))
    assert values["host"] == "0.0.0.0"
    assert ports(server_of(read("base"))["container"]) == {"http": values["port"], "grpc": values["grpc_port"]}
    assert instructions("EXPOSE") == [f"{values['port']} {values['grpc_port']}"]
    service = named("Service", "graftwork", read("base"))
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {"http": 8000, "grpc": 8001}


@pytest.mark.parametrize(("overlay", "device"), [("cpu", "cpu"), ("gpu", "cuda")])
def test_an_overlay_names_its_device(overlay: str, device: str) -> None:
    documents = built(f"overlays/{overlay}")
    assert serve(documents)["device"] == device
    limits = server_of(documents)["container"]["resources"]["limits"]
    assert limits.get("nvidia.com/gpu") == ("1" if device == "cuda" else None)


def test_the_server_beside_triton_asks_it_where_it_is() -> None:
    documents = built("overlays/triton")
    container = server_of(documents)["container"]
    (url,) = (word.partition("=")[2] for word in container["args"] if word.startswith("--triton-url="))
    host, _, port = url.partition(":")
    service = named("Service", host, documents)
    assert [(each["port"], each["targetPort"]) for each in service["spec"]["ports"]] == [(int(port), "grpc")]
    triton = main_container(pod_templates(documents)["triton"])
    assert ports(triton)["grpc"] == 8001  # Triton's own default
    assert triton["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "--strict-readiness=false" in triton["args"]  # its service has it, whichever of its models fail
    assert serve(documents)["engine"] == "triton"


def test_our_image_is_of_this_version() -> None:
    (version,) = re.findall(r'^version = "(.*)"$', (DOCKERFILE.parent / "pyproject.toml").read_text(), re.MULTILINE)
    for folder in ("base", "finetune-job"):
        for template in pod_templates(read(folder)).values():
            assert main_container(template)["image"] == f"graftwork:{version}"
    for file in KUBERNETES.rglob("kustomization.yaml"):
        for image in yaml.safe_load(file.read_text()).get("images", ()):
            assert (image["name"], image["newTag"]) == ("graftwork", version)


def test_probes_ask_what_is_answered_without_a_key(guarded: Guarded) -> None:
    container = server_of(read("base"))["container"]
    asked = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {
        "startupProbe": "/health/live",
        "livenessProbe": "/health/live",
        "readinessProbe": "/health/ready",
    }
    for path in asked.values():
        assert guarded.server.request("GET", path).status == 200
    assert guarded.ask({}).status == 401


def test_a_pod_has_the_time_to_drain() -> None:
    found = server_of(read("base"))
    values = serve(read("base"))
    program, seconds = found["container"]["lifecycle"]["preStop"]["exec"]["command"]
    owed = max(30, math.ceil(values["request_timeout"])) + 2
    assert program == "sleep"
    assert found["template"]["spec"]["terminationGracePeriodSeconds"] > int(seconds) + values["drain_delay"] + owed
    readiness = found["container"]["readinessProbe"]
    assert int(seconds) >= readiness["periodSeconds"] * readiness["failureThreshold"]


def test_the_autoscaler_asks_for_metrics_that_a_server_has_and_the_adapter_gives(guarded: Guarded) -> None:
    metrics = named("HorizontalPodAutoscaler", "graftwork", read("base"))["spec"]["metrics"]
    assert [metric["pods"]["metric"]["name"] for metric in metrics] == list(METRICS)
    for metric in metrics:
        rows = int(metric["pods"]["target"]["averageValue"])
        assert 0 < rows < 4 * serve(read("base"))["max_batch_rows"]  # beyond which requests get 503
    adapter = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())
    assert adapter["prometheus"]["url"] == "http://prometheus-operated.monitoring.svc"  # Prometheus Operator's
    for rule, (name, idle) in zip(adapter["rules"]["custom"], METRICS.items(), strict=True):
        assert rule["seriesQuery"].partition("{")[0] == name
        assert re.fullmatch(rule["name"]["matches"], name)
        wait_for(lambda name=name: name.encode() in scraped(guarded), 10)
        assert samples(scraped(guarded), name) == idle  # that of each worker, of which the rule gives the sum


def test_prometheus_operator_gets_the_rules_that_are_tested() -> None:
    rule = named("PrometheusRule", "graftwork", read("base"))
    file = KUBERNETES.parent / "prometheus" / "rules" / "graftwork.yml"
    assert rule["spec"] == yaml.safe_load(file.read_text())


def scraped(guarded: Guarded) -> bytes:
    return guarded.server.request("GET", "/metrics", headers=bearer(guarded.metrics)).body


def test_prometheus_scrapes_what_wants_a_key_with_one(guarded: Guarded) -> None:
    monitor = named("ServiceMonitor", "graftwork", read("base"))
    (endpoint,) = monitor["spec"]["endpoints"]
    service = named("Service", "graftwork", read("base"))
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert guarded.server.request("GET", endpoint["path"]).status == 401
    # A line's end from a file would become a part of the header, which Prometheus then refuses to send.
    secret = endpoint["authorization"]["credentials"]
    made = f'create secret generic {secret["name"]} --from-literal={secret["key"]}="$(cat key)"'
    assert made in (KUBERNETES.parent / "README.md").read_text()
    kind = endpoint["authorization"]["type"]
    reply = guarded.server.request("GET", endpoint["path"], headers={"authorization": f"{kind} {guarded.metrics}"})
    assert reply.status == 200


def test_the_file_of_the_keys_is_one_that_a_server_takes(tmp_path: Path) -> None:
    """A secret's volume gives files that others may read, which a server refuses: so they are copied first."""
    found = server_of(read("base"))
    (copy,) = found["template"]["spec"]["initContainers"]
    assert str(serve(read("base"))["keys"]) == copy["command"][-1]
    KeyFile(tmp_path / "keys.json").create("shop", [Scope.PREDICT])
    (tmp_path / "keys.json").chmod(0o444)
    (tmp_path / "copied").mkdir()
    places = {"/secret/keys.json": tmp_path / "keys.json", "/keys/keys.json": tmp_path / "copied" / "keys.json"}
    subprocess.run([str(places.get(word, word)) for word in copy["command"]], check=True)
    assert [key.name for key in KeyFile(tmp_path / "copied" / "keys.json").read()] == ["shop"]


def test_every_command_in_the_readme_is_one() -> None:
    text = (KUBERNETES.parent / "README.md").read_text().replace("\\\n", " ")
    blocks = "\n".join(line for line in text.splitlines() if line.startswith("    "))
    found = re.findall(r"(?<![-/\w])graftwork (?:serve|keys|models|finetune)\b[^>\n&]*", blocks)
    assert len(found) >= 8
    for command in found:
        assert parsed(shlex.split(command))
