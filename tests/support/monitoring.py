"""What the alerts and the dashboard ask of Prometheus, and whether a scrape has it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import promql_parser
import yaml
from prometheus_client.metrics_core import Metric

from tests.support.paths import ROOT

MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "whisperx-asr.json"
FLEET = "Fleet"  # the row of the dashboard that only a fleet fills
REPLICA = "replica"  # the label that only a fleet has
Query = tuple[str, str]  # where it stands, and PromQL
OWN = {"job": {"whisperx-asr"}, "instance": {"127.0.0.1:9000"}}  # added by Prometheus itself


def queries() -> list[Query]:
    """Of the rules and of the dashboard without its row for fleets, variables filled in."""
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    found = [(r["alert"], r["expr"]) for group in rules["groups"] for r in group["rules"]]
    dashboard = json.loads(DASHBOARD.read_text())
    found += [query for row, query in _of_panels(dashboard) if row != FLEET]
    found += [(item["name"], item["expr"]) for item in dashboard["annotations"]["list"]]
    for item in dashboard["templating"]["list"]:
        metric = re.fullmatch(r"label_values\((\w+), (\w+)\)", item["query"]["query"])
        assert metric is not None
        found.append((item["name"], f"sum by ({metric[2]}) ({metric[1]})"))
    return [_filled_in(query) for query in found]


def fleet_queries() -> list[Query]:
    """Of the row for fleets."""
    dashboard = json.loads(DASHBOARD.read_text())
    return [_filled_in(query) for row, query in _of_panels(dashboard) if row == FLEET]


def _of_panels(dashboard: Mapping[str, Any]) -> list[tuple[str, Query]]:
    """With the titles of their rows."""
    found, row = [], ""
    for panel in sorted(dashboard["panels"], key=lambda panel: panel["gridPos"]["y"]):
        row = panel["title"] if panel["type"] == "row" else row
        found += [(row, (panel["title"], t["expr"])) for t in panel.get("targets", [])]
    return found


def _filled_in(query: Query) -> Query:
    where, expr = query
    return where, re.sub(r"\$__(rate_)?interval", "5m", expr).replace("$instance", ".*")


def parts(query: str) -> tuple[list[Any], set[str]]:
    """The selectors of a query, and the labels that it groups or joins by."""
    selectors: list[Any] = []
    labels: set[str] = set()

    def visit(expr: Any) -> None:
        if isinstance(expr, promql_parser.VectorSelector):
            selectors.append(expr)
        elif isinstance(expr, promql_parser.AggregateExpr) and expr.modifier:
            labels.update(expr.modifier.labels)

    promql_parser.walk(promql_parser.parse(query), visit)
    return selectors, labels


def all_found(asked: Sequence[Query], metrics: Mapping[str, Metric]) -> None:
    """Each query finds its series in a scrape. `metrics`: by their names."""
    samples: dict[str, list[dict[str, str]]] = {"up": [{}]}
    for family in metrics.values():
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample.labels)
    for where, query in asked:
        selectors, grouped = parts(query)
        known = {*OWN, *re.findall(r'label_replace\(.+?, "(\w+)", ', query)}
        for selector in selectors:
            if selector.name.startswith("whisperx_asr_gpu_"):
                assert selector.name in metrics, where  # described, though there is no GPU
                known.add("device")
                continue
            found = samples.get(selector.name)
            assert found, f"{where}: nothing is called {selector.name}"
            known |= {name for labels in found for name in labels}
            _check_matchers(f"{where}: {selector.name}", selector, found)
        assert grouped <= known, f"{where}: {grouped - known}"


def _check_matchers(what: str, selector: Any, found: Sequence[Mapping[str, str]]) -> None:
    for matcher in selector.matchers.matchers:
        if matcher.name == REPLICA and matcher.op == promql_parser.MatchOp.NotRe:
            continue  # true of all that have no such label
        values = OWN.get(matcher.name) or {labels.get(matcher.name) for labels in found}
        assert values != {None}, f"{what} has no {matcher.name}"
        if matcher.op == promql_parser.MatchOp.Equal:
            assert matcher.value in values, f"{what}: {matcher.name}={matcher.value}"
        if matcher.name == REPLICA and matcher.op == promql_parser.MatchOp.Re:
            assert any(re.fullmatch(matcher.value, value or "") for value in values), what
