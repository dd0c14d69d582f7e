"""The manifests by themselves: each is what Kubernetes takes, and what names another one finds it."""

from __future__ import annotations

from collections.abc import Iterator

import kubernetes_validate
import pytest

from tests.deploy.container import instructions
from tests.deploy.manifests import (
    BUILT,
    KUBERNETES,
    Document,
    built,
    containers,
    main_container,
    named,
    of_kind,
    pod_templates,
    policies_of,
    read,
    selects,
)

VERSIONS = ("1.31", "1.33", "1.36")
OTHER_APIS = ("ServiceMonitor", "PrometheusRule")  # whose schemas Kubernetes does not have
OVERLAYS = [folder for folder in BUILT if folder.startswith("overlays/")]
NAME_SERVER = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]


def check(document: Document, version: str) -> None:
    if document["kind"] not in OTHER_APIS:
        assert kubernetes_validate.validate(document, version, strict=True) == version


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", ["base", "overlays/triton", "finetune-job"])
def test_every_file_has_the_fields_of_its_kind(folder: str, version: str) -> None:
    found = read(folder)
    assert found
    for document in found:
        check(document, version)


@pytest.mark.parametrize("folder", BUILT)
def test_what_a_cluster_is_given_has_the_fields_of_its_kind_and_one_namespace(folder: str) -> None:
    found = built(folder)
    for document in found:
        check(document, VERSIONS[-1])
        where = document["metadata"].get("namespace", document["metadata"]["name"])
        assert where == "graftwork", document["kind"]
    names = [(document["kind"], document["metadata"]["name"]) for document in found]
    assert len(set(names)) == len(names)


def test_every_file_is_used() -> None:
    for folder in ("base", *BUILT):
        files = {file.name for file in (KUBERNETES / folder).glob("*.yaml")} - {"kustomization.yaml"}
        text = (KUBERNETES / folder / "kustomization.yaml").read_text()
        assert all(name in text for name in files), files


def templates(folder: str) -> Iterator[tuple[str, Document]]:
    yield from pod_templates(built(folder)).items()


@pytest.mark.parametrize("folder", BUILT)
def test_every_pod_complies_with_the_restricted_standard_and_writes_to_volumes_only(folder: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, which the namespace enforces."""
    for name, template in templates(folder):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False  # variables such as GRAFTWORK_PORT, of services
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all(not {"hostPath"} & volume.keys() for volume in spec["volumes"])
        for container in containers(template):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            wanted, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert {"cpu", "memory"} <= wanted.keys()
            assert "memory" in limits
            assert limits.get("cpu", wanted["cpu"]) == wanted["cpu"]  # an overlay changes both
            repository, _, tag = container["image"].rpartition(":")
            assert repository
            assert tag not in ("", "latest")
            mounted = [mount["name"] for mount in container["volumeMounts"]]
            assert set(mounted) <= {volume["name"] for volume in spec["volumes"]}
        used = {mount["name"] for container in containers(template) for mount in container["volumeMounts"]}
        assert used == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("folder", BUILT)
def test_our_image_runs_as_its_own_user_and_may_write_where_it_has_to(folder: str) -> None:
    (user,) = instructions("USER")
    (cache,) = instructions("VOLUME")
    for _, template in templates(folder):
        container = main_container(template)
        if container["image"].startswith("graftwork:"):
            assert template["spec"]["securityContext"]["runAsUser"] == int(user)
            writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
            assert {cache, "/tmp"} <= writable
            assert ("/models" in writable) == (container["name"] == "finetune")


@pytest.mark.parametrize("folder", BUILT)
def test_selectors_find_pods_and_their_ports_have_the_names_that_are_asked_for(folder: str) -> None:
    found = built(folder)
    pods = pod_templates(found).values()
    for maker in of_kind("Deployment", found):
        assert selects(maker["spec"]["selector"], maker["spec"]["template"]["metadata"]["labels"])
    for service in of_kind("Service", found):
        (pod,) = (pod for pod in pods if selects(service["spec"]["selector"], pod["metadata"]["labels"]))
        ports = {port["name"] for port in main_container(pod).get("ports", ())}
        for port in service["spec"]["ports"]:
            assert port.get("targetPort", port["port"]) in {*ports, port["port"]}
    for policy in of_kind("NetworkPolicy", found):
        assert any(selects(policy["spec"]["podSelector"], pod["metadata"]["labels"]) for pod in pods)
    for pod in pods:
        ports = {port["name"] for port in main_container(pod).get("ports", ())}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in main_container(pod):
                assert main_container(pod)[probe]["httpGet"]["port"] in ports
        for policy in policies_of(pod, found, "Ingress"):
            for rule in policy["spec"].get("ingress", ()):
                assert {port["port"] for port in rule.get("ports", ())} <= ports


@pytest.mark.parametrize("folder", OVERLAYS)
def test_budget_and_autoscaler_are_those_of_the_servers(folder: str) -> None:
    found = built(folder)
    server = named("Deployment", "graftwork", found)
    (autoscaler,) = of_kind("HorizontalPodAutoscaler", found)
    target = {"apiVersion": server["apiVersion"], "kind": "Deployment", "name": "graftwork"}
    assert autoscaler["spec"]["scaleTargetRef"] == target
    assert "replicas" not in server["spec"]  # each `kubectl apply` would undo what the autoscaler chose
    (budget,) = of_kind("PodDisruptionBudget", found)
    assert selects(budget["spec"]["selector"], server["spec"]["template"]["metadata"]["labels"])
    assert 0 < budget["spec"]["maxUnavailable"] < autoscaler["spec"]["minReplicas"] <= autoscaler["spec"]["maxReplicas"]


@pytest.mark.parametrize("folder", OVERLAYS)
def test_nothing_goes_out_but_to_triton(folder: str) -> None:
    found = built(folder)
    for name, pod in pod_templates(found).items():
        policies = list(policies_of(pod, found, "Egress"))
        assert policies  # without one, everything may go out
        ways = [rule for policy in policies for rule in policy["spec"].get("egress", ())]
        if folder != "overlays/triton" or name == "triton":
            assert ways == []
            continue
        to_triton, to_names = ways
        ((peer,), (port,)) = to_triton["to"], to_triton["ports"]
        triton = pod_templates(found)["triton"]
        assert selects(peer["podSelector"], triton["metadata"]["labels"])
        assert port["port"] in {each["name"] for each in main_container(triton)["ports"]}
        assert to_names["ports"] == NAME_SERVER


@pytest.mark.parametrize("folder", OVERLAYS)
def test_only_named_clients_and_prometheus_come_in(folder: str) -> None:
    found = built(folder)
    for pod in pod_templates(found).values():
        rules = [r for policy in policies_of(pod, found, "Ingress") for r in policy["spec"].get("ingress", ())]
        assert rules
        assert all(rule["from"] and rule["ports"] for rule in rules)


@pytest.mark.parametrize("folder", BUILT)
def test_what_is_claimed_exists_or_is_named_in_the_readme(folder: str) -> None:
    """Claims of the base serve the job too; secrets are made by hand."""
    claims = {claim["metadata"]["name"] for claim in of_kind("PersistentVolumeClaim", [*built(folder), *read("base")])}
    readme = (KUBERNETES.parent / "README.md").read_text()
    for _, template in templates(folder):
        for volume in template["spec"]["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
            if "secret" in volume:
                assert f"create secret generic {volume['secret']['secretName']} " in readme
