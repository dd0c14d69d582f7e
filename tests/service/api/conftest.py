from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler

from service.api.tracing import Tracing
from tests.service.api.recorded_spans import (
    Recorded,
    Traced,
)
from tests.service.site import Play, Site


@pytest.fixture
def traced(play: Play) -> Traced:
    """Runs a story on a site whose requests are traced: ``traced(story, sampler=..., **options)``."""

    def run(
        story: Callable[[Site, Recorded], Coroutine[Any, Any, None]], *, sampler: Sampler = DEFAULT_ON, **options: Any
    ) -> None:
        async def on_stage(site: Site) -> None:
            recorded = Recorded()
            provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
            provider.add_span_processor(SimpleSpanProcessor(recorded.exporter))
            application = site.application
            application.telemetry.tracing = Tracing(provider, "0", application._paths)
            await story(site, recorded)

        play(on_stage, **options)

    return run


@pytest.fixture
def access_lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[Mapping[str, Any]]]]:
    """The fields of what the log says of requests, but for probes."""

    def lines() -> list[Mapping[str, Any]]:
        found = [record.fields for record in caplog.records if record.name == "graftwork.access"]
        return [fields for fields in found if fields["path"] not in ("/health/ready", "/metrics")]

    with caplog.at_level(logging.INFO, logger="graftwork.access"):
        yield lines
