"""The shipped rules, as they are in their file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from tests.deploy.prometheus_process import RULES
from tests.deploy.promql import Labels, result_labels

ALL = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
ALERTS: Mapping[str, dict[str, Any]] = {rule["alert"]: rule for rule in ALL if "alert" in rule}
RECORDS: Mapping[str, dict[str, Any]] = {rule["record"]: rule for rule in ALL if "record" in rule}


def with_records(measured: Mapping[str, Labels]) -> dict[str, Labels]:
    """The metrics of a server, and what the rules make of them."""
    known = dict(measured)
    for name, rule in RECORDS.items():  # in order: what a rule reads is recorded before it
        known[name] = (result_labels(rule["expr"], known) or frozenset()) | set(rule.get("labels", {}))
    return known
