"""/metrics, the dashboard and the alerts: every name and label is one that a station tells."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from edge.hmi.server.prometheus import metrics_text
from tests.support.broker import Broker
from tests.support.page_contents import sample_status
from tests.support.page_station import PageStation, wait_until
from tests.support.remote_io import RemoteIoModule
from tests.support.small_bundle import write_images

CONFIGS = Path(__file__).parents[3] / "configs"
# What Prometheus itself adds.
OF_PROMETHEUS = {"up", "job", "instance"}
_NAME = re.compile(r"\b((?:edge_[a-z0-9_]+)|up)\b")
_SELECTOR = re.compile(r"\b(edge_[a-z0-9_]+)\{([^}]*)\}")
_LABEL = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPED = re.compile(r"\bby \(([^)]*)\)")


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[PageStation]:
    """A station on a broker, so that nothing is missing from its metrics."""
    folder = tmp_path_factory.mktemp("station")
    images = write_images(folder / "pictures", good=1, defective=1)
    camera = {"uri": str(images), "rate_fps": 8, "loop": True}
    one = PageStation(folder, camera, bundle)
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    one.settings["mqtt"] = {"url": broker.url, "station": "site/line/cell/top"}
    try:
        with RemoteIoModule() as module:
            one.settings["outputs"] = {
                "module": {"host": "127.0.0.1", "port": module.port, "timeout_ms": 10_000},
                "good": {"device": "module", "line": 0, "window_ms": 60_000},
                "fault": {"device": "module", "line": 1},
                "tolerance_ms": 10_000,
            }
            with one:
                yield one
    finally:
        broker.close()


def read_metrics(station: PageStation) -> str:
    """Return what Prometheus is told; a busy machine may starve a station into silence."""
    answers: list[httpx.Response] = []

    def reported() -> bool:
        answers.append(station.get("/metrics"))
        return answers[-1].status_code == 200

    wait_until(reported, "metrics")
    return answers[-1].text


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def expressions() -> list[str]:
    alerts = yaml.safe_load((CONFIGS / "prometheus-alerts.yaml").read_text())
    dashboards = [
        json.loads((CONFIGS / f"grafana-{name}.json").read_text())
        for name in ("dashboard", "plant")
    ]
    rules = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    panels = [
        target["expr"]
        for dashboard in dashboards
        for panel in dashboard["panels"]
        for target in panel["targets"]
        if "rawSql" not in target
    ]
    return rules + panels


def test_metrics_count_what_the_journal_holds_and_the_dashboard_and_alerts_ask_for_it(
    station: PageStation,
) -> None:
    def reported() -> dict[str, list[tuple[dict[str, str], float]]]:
        return samples(read_metrics(station))

    wait_until(lambda: sum(v for _, v in reported().get("edge_parts_total", [])) > 20, "parts")
    wait_until(lambda: reported()["edge_broker_connected"][0][1] == 1.0, "the broker")
    found = reported()

    by_cause = {(s["result"], s["reason"]): v for s, v in found["edge_parts_total"]}
    parts = sum(by_cause.values())
    assert set(by_cause) == {("OK", "score_below"), ("NOK", "score_above")}
    seen = {s["stage"]: v for s, v in found["edge_stage_seconds_count"]}
    assert seen["total"] == seen["inference"] == parts
    assert {s["queue"] for s, _ in found["edge_queue_items"]} == {"frames", "journal"}
    # What is counted is on its way into the journal.
    wait_until(lambda: reported()["edge_journal_last_seq"][0][1] >= parts, "their records")
    edges = {s["output"]: v for s, v in found["edge_output_edges_total"]}
    assert edges["good"] > 0 and edges["fault"] == 0
    timed = {s["output"]: v for s, v in found["edge_output_decision_seconds_count"]}
    assert timed["good"] > 0 and timed["fault"] == 0
    assert {s["output"]: v for s, v in found["edge_output_missed_total"]} == {"good": 0, "fault": 0}
    good, fault = station.status()["status"]["outputs"]
    assert (good["name"], good["device"], good["line"]) == ("good", "module", "0")
    assert good["last_edge_utc"] and fault["active"] is False
    ((model, _),) = found["edge_model_info"]
    assert model["sha256"] == station.status()["status"]["model"]["sha256"]

    text = read_metrics(station)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for expression in expressions():
        check(expression, found, families)


def check(
    expression: str,
    found: dict[str, list[tuple[dict[str, str], float]]],
    families: dict[str, Metric],
) -> None:
    """Find every name of an expression in real metrics, and every label at one that it names."""
    names = set(_NAME.findall(expression)) - OF_PROMETHEUS
    reported = set(found) | set(families)
    assert names <= reported, expression
    labels = {label for name in names for sample, _ in found.get(name, []) for label in sample}
    for name, selector in _SELECTOR.findall(expression):
        known = {label for sample, _ in found.get(name, []) for label in sample}
        for label, comparison, value in _LABEL.findall(selector):
            assert label in known | OF_PROMETHEUS or not found.get(name), expression
            values = {sample.get(label) for sample, _ in found.get(name, [])}
            if comparison == "=" and label in ("stage", "condition", "state") and "$" not in value:
                assert value in values, expression
    for grouped in _GROUPED.findall(expression):
        wanted = {label.strip() for label in grouped.split(",")}
        empty = all(not found.get(name) for name in names)
        assert empty or wanted <= labels | OF_PROMETHEUS, expression


def test_prometheus_itself_takes_alerts_and_metrics(station: PageStation, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing. Run: make packages"
    plain = [re.sub(r"\$job|\$instance", "x", expression) for expression in expressions()]
    rules: dict[str, Any] = {
        "groups": [
            {
                "name": "dashboard",
                "rules": [
                    {"record": f"panel:{number}", "expr": expression}
                    for number, expression in enumerate(plain)
                ],
            }
        ]
    }
    panels = tmp_path / "panels.yaml"
    panels.write_text(yaml.safe_dump(rules))

    for arguments in (
        ["check", "rules", str(CONFIGS / "prometheus-alerts.yaml")],
        ["check", "rules", str(panels)],
        ["check", "metrics"],
    ):
        done = subprocess.run(
            [promtool, *arguments],
            input=read_metrics(station),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_metrics_of_a_station_that_has_just_started_are_reported_without_a_gap() -> None:
    found = samples(metrics_text(sample_status(), None, 0).decode())

    assert found["edge_frames_skipped_total"][0][1] == 0
    assert "edge_broker_connected" not in found and "edge_journal_bytes" not in found
