"""deploy/compose.yaml: what Compose takes, and what the image, the server and the other files of deploy/ say besides."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.command_line import parsed
from tests.deploy.container import instructions

FILE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
COMPOSE: Mapping[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: Mapping[str, Any] = COMPOSE["services"]
SCHEMA = "builtin_schemas/vendor/compose-spec.json"  # in the package check-jsonschema
SECRETS = "/run/secrets/"


def command(**environment: str) -> Sequence[str]:
    """Of the server, with these variables in place of those in the file."""
    text = re.sub(r"\$\{(\w+):-\}", lambda found: environment.get(found[1], ""), SERVICES["graftwork"]["command"])
    assert "$" not in text
    return shlex.split(text)


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def mounts(service: str) -> Mapping[str, tuple[str, bool]]:
    """By their place in the container: the place outside, and whether they can only be read."""
    found = {}
    for volume in SERVICES[service]["volumes"]:
        outside, inside, *mode = volume.split(":")
        found[inside] = (outside, mode == ["ro"])
    return found


def test_it_is_what_the_specification_of_compose_says() -> None:
    beside = FILE.parents[1] / "build" / "manifests" / "check_jsonschema"
    package = importlib.util.find_spec("check_jsonschema")
    places = [beside, *([Path(package.origin).parent] if package is not None and package.origin else [])]
    schemas = [place / SCHEMA for place in places if (place / SCHEMA).is_file()]
    if not schemas:
        pytest.skip("needs the package check-jsonschema, which has the schema")
    schema = json.loads(schemas[0].read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(dict(COMPOSE))


def test_compose_reads_it_with_all_profiles(tmp_path: Path) -> None:
    programs = [["docker", "compose"], ["docker-compose"]]
    found = [
        p
        for p in programs
        if shutil.which(p[0]) and subprocess.run([*p, "version"], capture_output=True).returncode == 0
    ]
    if not found:
        pytest.skip("needs the program docker-compose, version 2")
    configured = subprocess.run(
        [*found[0], "--file", str(FILE), "--profile", "*", "config", "--format", "json"],
        capture_output=True,
        text=True,
        env={**os.environ, "GRAFTWORK_OPTIONS": "--workers 2"},
    )
    assert configured.returncode == 0, configured.stderr
    assert json.loads(configured.stdout)["services"]["graftwork"]["command"][-2:] == ["--workers", "2"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "ipc"} & service.keys()
    _, _, tag = service["image"].partition(":")
    assert re.match(r"v?\d+\.\d+", tag), "no fixed version"
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")  # everybody else comes through nginx
    for file in mounts(name).values():
        assert file[1] or file[0] in COMPOSE["volumes"] or name == "tool"


def test_the_server_is_the_image_with_grpc_besides() -> None:
    service, values = SERVICES["graftwork"], parsed(command())
    (image,) = instructions("CMD")
    assert list(command())[: len(json.loads(image))] == json.loads(image)
    published = [port.split(":") for port in service["ports"]]
    assert [int(inside) for _, _, inside in published] == [values["port"], values["grpc_port"]]
    assert instructions("EXPOSE") == [f"{values['port']} {values['grpc_port']}"]
    assert mounts("graftwork") == {"/models": ("../model-repository", True), "/cache": ("cache", False)}
    assert {place.split(":")[0] for place in service["tmpfs"]} == {"/tmp"}


def test_the_health_check_is_that_of_the_image() -> None:
    (line,) = instructions("HEALTHCHECK")
    options_, _, words = line.partition(" CMD ")
    check = SERVICES["graftwork"]["healthcheck"]
    assert check["test"] == ["CMD", *json.loads(words)]
    assert {f"--{name.replace('_', '-')}={value}" for name, value in check.items() if name != "test"} == set(
        options_.split()
    )


def test_it_has_the_time_to_drain() -> None:
    values = parsed(command())
    owed = values["drain_delay"] + max(30, math.ceil(values["request_timeout"])) + 2
    assert seconds(SERVICES["graftwork"]["stop_grace_period"]) > owed


def test_commands_on_the_repository_have_it_and_no_network() -> None:
    assert SERVICES["tool"]["network_mode"] == "none"
    assert mounts("tool") == {"/models": ("../model-repository", False), "/cache": ("cache", False)}
    assert SERVICES["tool"]["profiles"] == ["tool"]  # not started by `up`


def test_triton_is_started_with_its_profile_only_and_the_server_can_be_told_where_it_is() -> None:
    triton = SERVICES["triton"]
    assert triton["profiles"] == ["triton"]
    (outside, read_only) = mounts("triton")["/triton-models"]
    assert (outside, read_only) == ("../triton-models", True)
    assert "--model-repository=/triton-models" in triton["command"]
    assert "--strict-readiness=false" in triton["command"]  # healthy, whichever of its models fail
    (told,) = re.findall(r'GRAFTWORK_OPTIONS="(--engine .*?)"', FILE.read_text())
    assert told.split()[-1] == "triton:8001"  # the service, and Triton's own port for gRPC
    assert parsed(command(GRAFTWORK_OPTIONS=told))["engine"] == "triton"


def test_secrets_are_files_that_git_ignores() -> None:
    used = [secret for service in SERVICES.values() for secret in service.get("secrets", ())]
    names = {secret if isinstance(secret, str) else secret["source"] for secret in used}
    assert names == COMPOSE["secrets"].keys()
    ignored = (FILE.parents[1] / ".gitignore").read_text().splitlines()
    assert "/deploy/secrets/" in ignored
    readme = (FILE.parent / "README.md").read_text()
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")
        assert f"> deploy/{secret['file'].removeprefix('./')}" in readme


def test_prometheus_has_the_key_where_it_looks_for_it_and_asks_the_server_where_it_is() -> None:
    configuration = FILE.parent / "prometheus" / "prometheus.yml"
    assert mounts("prometheus")["/etc/prometheus"] == ("./prometheus", True)
    (secret,) = SERVICES["prometheus"]["secrets"]
    (job,) = yaml.safe_load(configuration.read_text())["scrape_configs"]
    assert job["authorization"]["credentials_file"] == SECRETS + secret["target"]
    assert job["static_configs"] == [{"targets": [f"graftwork:{parsed(command())['port']}"]}]


def test_grafana_finds_what_is_provisioned() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == SECRETS + SERVICES["grafana"]["secrets"][0]
    folder = FILE.parent / "grafana"
    for outside, read_only in mounts("grafana").values():
        assert not read_only or (FILE.parent / outside).exists()
    (dashboards,) = (folder / "provisioning" / "dashboards").glob("*.yml")
    (provider,) = yaml.safe_load(dashboards.read_text())["providers"]
    assert any(place.startswith(provider["options"]["path"].rstrip("/") + "/") for place in mounts("grafana"))
    (datasources,) = (folder / "provisioning" / "datasources").glob("*.yml")
    assert {source["url"] for source in yaml.safe_load(datasources.read_text())["datasources"]} == {
        "http://prometheus:9090"
    }
