from __future__ import annotations

import pytest

from tests.deploy.promql import Labels, PromqlError, Vector, result_labels

AT = frozenset({"job", "instance"})
METRICS: dict[str, Labels] = {
    "up": AT,
    "rows": AT,
    "asked_total": AT | {"model"},
    "seconds_bucket": AT | {"model", "le"},
    "job:asked:rate5m": frozenset({"job"}),
}


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("up", AT),
        ('rate(asked_total{model=~"a|b,}", job!="x"}[5m] offset 1h)', AT | {"model"}),
        ("sum by (job) (rate(asked_total[5m]))", {"job"}),
        ("sum(rate(asked_total[5m])) by (job, model) # by whom", {"job", "model"}),
        ("sum without (model) (asked_total) / rows", AT),
        ("sum(up)", set()),
        ("topk(3, asked_total)", AT | {"model"}),
        ("histogram_quantile(0.9, sum by (le, model) (rate(seconds_bucket[5m])))", {"model"}),
        ("1 - sum by (job) (up) / job:asked:rate5m > 14.4 * 0.01 and job:asked:rate5m", {"job"}),
        ("sum by (job) (up) * on (job) job:asked:rate5m", {"job"}),
        ("asked_total / on (job, instance) rows", AT),
        ("-(rows or up) >= bool 0.8", AT),
        ("clamp_max(vector(1), 2)", None),
        ('absent(up{job="x"})', set()),
    ],
)
def test_the_labels_of_a_result(expression: str, labels: Vector) -> None:
    assert result_labels(expression, METRICS) == labels


@pytest.mark.parametrize(
    "expression",
    [
        "down",
        "sum(rate(asked[5m]))",
        'up{model="a"}',
        "sum by (model) (up)",
        "sum by (model) (job:asked:rate5m)",
        "sum(sum by (job) (asked_total)) by (model)",
        "histogram_quantile(0.9, sum by (model) (rate(seconds_bucket[5m])))",
        "rows / asked_total",
        "rows / on (model) up",
        "rows and (up / (rows - down))",
        "sum(up",
        "up up",
        "up{job=$}",
        "",
    ],
)
def test_what_is_not_there_or_means_nothing(expression: str) -> None:
    with pytest.raises(PromqlError):
        result_labels(expression, METRICS)
