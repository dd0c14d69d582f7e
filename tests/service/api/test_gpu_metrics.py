from __future__ import annotations

import inspect
import threading

import pynvml
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.api import gpu_metrics
from service.api.gpu_metrics import GpuMetrics, GpuReading, gpu_exposition
from service.api.triton_metrics import triton_gpu_exposition
from tests.server_process import samples
from tests.service.nvml import Nvml, NVMLError, NVMLError_LibraryNotFound
from tests.service.site import Play, Site

FIELDS = {"gpu", "uuid", "utilization", "memory_used", "memory_total", "power", "power_limit", "temperature"}


def reading(gpu: int) -> GpuReading:
    return GpuReading(
        gpu=gpu,
        uuid=f"GPU-{gpu}",
        utilization=(10 + gpu) / 100,
        memory_used=1000 + gpu,
        memory_total=2000 + gpu,
        power=300 + gpu,
        power_limit=700 + gpu,
        temperature=50 + gpu,
    )


def test_every_gpu_says_what_it_is_doing(nvml: Nvml) -> None:
    metrics = GpuMetrics()
    for _ in range(3):
        assert metrics.read() == [reading(0), reading(1)]
    assert nvml.begun == 1


def test_the_stand_in_has_the_functions_of_nvidias_bindings() -> None:
    source = inspect.getsource(gpu_metrics)
    names = [name for name in dir(pynvml) if f"nvml.{name}(" in source]
    assert len(names) == 10
    for name in (*names, "NVML_TEMPERATURE_GPU", "NVMLError"):
        getattr(Nvml(1), name)


def test_a_value_that_fails_leaves_the_others(nvml: Nvml, caplog: pytest.LogCaptureFixture) -> None:
    of = {
        "nvmlDeviceGetUtilizationRates": {"utilization"},
        "nvmlDeviceGetMemoryInfo": {"memory_used", "memory_total"},
        "nvmlDeviceGetPowerUsage": {"power"},
        "nvmlDeviceGetEnforcedPowerLimit": {"power_limit"},
        "nvmlDeviceGetTemperature": {"temperature"},
    }
    metrics = GpuMetrics()
    for function, fields in of.items():
        nvml.broken = [f"{function}:1"]
        first, second = metrics.read()
        assert first == reading(0)
        for field in FIELDS:
            assert getattr(second, field) == (None if field in fields else getattr(reading(1), field))
        for text in (gpu_exposition([first, second]), triton_gpu_exposition([first, second])):
            assert "None" not in text
    nvml.broken = list(of)
    assert gpu_exposition(metrics.read()) == ""
    assert not caplog.records  # a part of a GPU never has some of them


@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID"])
def test_a_gpu_that_has_no_name_leaves_the_other(nvml: Nvml, function: str) -> None:
    nvml.broken = [f"{function}:0"]
    assert GpuMetrics().read() == [reading(1)]


def test_a_driver_that_vanishes_is_said_once_and_found_again(nvml: Nvml, caplog: pytest.LogCaptureFixture) -> None:
    metrics = GpuMetrics()
    assert len(metrics.read()) == 2
    nvml.gone = NVMLError("Driver Not Loaded")
    assert [metrics.read() for _ in range(3)] == [[]] * 3
    assert [record.getMessage() for record in caplog.records] == ["no metrics of GPUs from NVML: Driver Not Loaded"]
    nvml.gone = None
    assert len(metrics.read()) == 2
    assert nvml.begun == 2
    nvml.gone = NVMLError("Driver Not Loaded")
    metrics.read()
    assert len(caplog.records) == 2


def test_without_a_driver_there_is_nothing_to_say(nvml: Nvml, caplog: pytest.LogCaptureFixture) -> None:
    nvml.gone = NVMLError_LibraryNotFound("NVML Shared Library Not Found")
    assert GpuMetrics().read() == []
    assert not caplog.records


def test_a_driver_that_hangs_holds_nobody_up(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gpu_metrics, "MOST_SECONDS", 0.05)
    metrics = GpuMetrics()
    nvml.answers.clear()
    try:
        assert [list(metrics.read()) for _ in range(3)] == [[]] * 3
        (hanging,) = (thread for thread in threading.enumerate() if thread.name == "nvml")
        assert hanging.daemon  # or the process would not end
        assert len(caplog.records) == 1
    finally:
        nvml.answers.set()
    hanging.join(30)
    monkeypatch.setattr(gpu_metrics, "MOST_SECONDS", 30.0)
    assert metrics.read() == [reading(0), reading(1)]


def test_the_exposition_is_one_that_prometheus_reads() -> None:
    readings = [reading(0), GpuReading(gpu=1, uuid="GPU-1", temperature=51)]
    ours = gpu_exposition(readings)
    assert samples(ours.encode(), "graftwork_gpu_temperature_celsius") == {("0", "GPU-0"): 50, ("1", "GPU-1"): 51}
    assert samples(ours.encode(), "graftwork_gpu_utilization_ratio") == {("0", "GPU-0"): 0.1}
    theirs = triton_gpu_exposition(readings)
    assert samples(theirs.encode(), "nv_gpu_power_usage") == {("GPU-0",): 300}
    for text in (ours, theirs):
        families = list(text_string_to_metric_families(text))
        assert all(family.documentation and family.type == "gauge" for family in families)
        assert text.count("# TYPE") == len(families) == len({family.name for family in families})
    assert gpu_exposition([]) == triton_gpu_exposition([]) == ""


@pytest.mark.parametrize("triton", [False, True])
def test_they_are_among_the_metrics_of_a_server(nvml: Nvml, play: Play, triton: bool) -> None:
    async def story(site: Site) -> None:
        assert await site.metric("graftwork_gpu_memory_used_bytes") == {("0", "GPU-0"): 1000, ("1", "GPU-1"): 1001}
        wanted = {("GPU-0",): 1000, ("GPU-1",): 1001} if triton else {}
        assert await site.metric("nv_gpu_memory_used_bytes") == wanted
        nvml.gone = NVMLError("GPU is lost")
        assert await site.metric("graftwork_gpu_memory_used_bytes") == {}
        assert await site.metric("graftwork_ready") == {(): 1}

    play(story, triton_metrics=triton)


def test_a_server_on_a_cpu_does_not_ask_for_them(nvml: Nvml, play: Play) -> None:
    async def story(site: Site) -> None:
        assert b"graftwork_gpu" not in (await site.get("/metrics")).body

    play(story, device="cpu")
    assert nvml.begun == 0
