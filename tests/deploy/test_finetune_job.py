"""The job that fine-tunes over two pods: its arguments as they are written, as two processes of this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from models.repository import ModelRepository
from tests.deploy.command_line import parsed
from tests.deploy.container import can_confine, confined, instructions
from tests.deploy.manifests import main_container, named, of_kind, pod_templates, read, selects
from tests.processes import free_port

ROOT = Path(__file__).parents[2]


def arguments(rank: int = 0) -> Sequence[str]:
    """Of ``torchrun`` in one pod, as Kubernetes fills in its number."""
    program, *words = main_container(pod_templates(read("finetune-job"))["graftwork-finetune"])["args"]
    assert program == "torchrun"
    return [word.replace("$(JOB_COMPLETION_INDEX)", str(rank)) for word in words]


def test_the_pods_of_the_job_find_each_other() -> None:
    documents = read("finetune-job")
    job = named("Job", "graftwork-finetune", documents)["spec"]
    launcher = get_args_parser().parse_args(arguments())
    assert job["completionMode"] == "Indexed"  # which gives each pod its number, and a name
    assert job["completions"] == job["parallelism"] == int(launcher.nnodes)
    subdomain = job["template"]["spec"]["subdomain"]
    assert launcher.master_addr == f"graftwork-finetune-0.{subdomain}"
    service = named("Service", subdomain, documents)["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert [port["port"] for port in service["ports"]] == [launcher.master_port]
    labels = job["template"]["metadata"]["labels"]
    assert selects(service["selector"], labels)
    (policy,) = of_kind("NetworkPolicy", documents)
    within, _names = policy["spec"]["egress"]
    assert within == {"to": policy["spec"]["ingress"][0]["from"]}  # on any port, both ways
    assert selects(within["to"][0]["podSelector"], labels)


def test_it_learns_from_its_volumes() -> None:
    template = pod_templates(read("finetune-job"))["graftwork-finetune"]
    mounts = {mount["mountPath"]: mount for mount in main_container(template)["volumeMounts"]}
    launcher = get_args_parser().parse_args(arguments())
    assert (launcher.training_script, launcher.module) == ("finetune", True)
    values = parsed(["graftwork", "finetune", *launcher.training_script_args])
    assert mounts[str(values["data"].parent)]["readOnly"] is True
    (variables,) = instructions("ENV")
    assert "GRAFTWORK_REPOSITORY=/models " in variables
    assert "readOnly" not in mounts["/models"]


@pytest.mark.slow
def test_its_arguments_publish_a_version_when_each_pod_runs_them(tiny_text: str, tmp_path: Path) -> None:
    """In pods without a root that they can write, where the kernel lets one make such ones."""
    rows = [
        f"{'vowels' if n % 2 else 'digits'},{('ae io ' if n % 2 else '12 45 ') * (n % 5 + 1)}{n}" for n in range(40)
    ]
    (tmp_path / "kinds.csv").write_text("label,text\n" + "\n".join(rows) + "\n")
    for name in ("models", "cache", "tmp-0", "tmp-1"):
        (tmp_path / name).mkdir()
    port = free_port()
    processes = []
    for rank in range(2):
        places = {
            "--master-addr=graftwork-finetune-0.graftwork-finetune": "--master-addr=127.0.0.1",
            "--master-port=29500": f"--master-port={port}",
            "/data/photos": str(tmp_path / "kinds.csv"),
        }
        words = [places.get(word, word) for word in arguments(rank)]
        command = [sys.executable, "-m", "torch.distributed.run", *words, f"--backbone={tiny_text}", "--epochs=1"]
        writable = [tmp_path / "models", tmp_path / "cache", tmp_path / f"tmp-{rank}"]
        environment = {
            "GRAFTWORK_REPOSITORY": str(tmp_path / "models"),
            "GRAFTWORK_CACHE_DIR": str(tmp_path / "cache"),
            "GRAFTWORK_ENGINE": "torch",
            "TMPDIR": str(tmp_path / f"tmp-{rank}"),
            "HOME": "/home/graftwork",
            "PYTHONPATH": str(ROOT),
            "PYTHONSAFEPATH": "1",
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "OMP_NUM_THREADS": "1",
        }
        command = list(confined(writable, command)) if can_confine() else command
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    try:
        said = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    (version,) = ModelRepository(tmp_path / "models").versions("photos")
    assert version.number == 1
