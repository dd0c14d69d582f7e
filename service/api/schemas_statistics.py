"""Triton's statistics extension, for the OpenAPI document."""

from __future__ import annotations

from service.api.schemas import NAME, TEXT, Json, record, ref

_COUNT: Json = {"type": "integer", "minimum": 0}
_DURATION: Json = record(count=_COUNT, ns=_COUNT)
_BATCHES: Json = record(
    batch_size={**_COUNT, "description": "Rows of all versions in it."},
    compute_input=_DURATION,
    compute_infer=_DURATION,
    compute_output=_DURATION,
)

STATISTICS_SCHEMAS: Json = {
    "Statistics": {
        **record(model_stats={"type": "array", "items": ref("VersionStatistics")}),
        "description": "Triton's statistics extension.",
    },
    "VersionStatistics": {
        **record(
            name=NAME,
            version={**TEXT, "pattern": "^[1-9][0-9]{0,8}$"},
            last_inference={**_COUNT, "description": "Milliseconds since 1970; 0 where there was none."},
            inference_count={**_COUNT, "description": "Rows that were answered."},
            execution_count={**_COUNT, "description": "Batches with rows of this version."},
            inference_stats=record(
                success=_DURATION,
                fail=_DURATION,
                queue=_DURATION,
                compute_input={**_DURATION, "description": "A request's slowest row being prepared."},
                compute_infer={**_DURATION, "description": "A request's slowest batch on the device."},
                compute_output=_DURATION,
                cache_hit=_DURATION,
                cache_miss=_DURATION,
            ),
            response_stats={"type": "object", "maxProperties": 0},
            batch_stats={"type": "array", "items": _BATCHES},
            memory_usage={"type": "array", "maxItems": 0},
        ),
    },
}
