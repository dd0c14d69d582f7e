from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.settings import ServerSettings


def test_the_defaults_are_those_of_the_security_page() -> None:
    settings = ServerSettings(repository=Path("r"))
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert (settings.max_json_bytes, settings.max_image_bytes) == (2 * 1024**2, 16 * 1024**2)
    assert settings.max_instances == 64
    assert settings.request_timeout_seconds == 30
    assert settings.max_bytes_in_flight == 256 * 1024**2
    assert settings.max_rows_in_flight is None  # four batches a worker
    assert settings.worker_timeout_seconds == 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 80},
        {"port": 65536},
        {"workers": 0},
        {"device": "tpu"},
        {"request_timeout_seconds": 0},
        {"drain_seconds": -1},
        {"max_rows_in_flight": 0},
        {"backbone_memory": 0},
        {"backbone_memory": "a lot"},
        {"worker_timeout_seconds": 1},  # it is heard once a second
        {"model_control": "poll"},
        {"unheard_of": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ServerSettings(repository=Path("r"), **wrong)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        ServerSettings(repository=Path("r")).port = 9000  # type: ignore[misc]
