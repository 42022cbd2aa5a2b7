"""The description of the page's interface, against a real page: every route, every answer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route

from edge.hmi.server.auth import Guard
from edge.hmi.server.handlers import Application
from edge.hmi.server.live_view import LiveView
from edge.hmi.server.part_queries import PartQueries
from edge.hmi.server.production_stats import ProductionStats
from edge.hmi.server.requests import ACTIONS
from edge.hmi.server.routes import application
from edge.hmi.server.taught_images import TaughtImages
from tests.edge.hmi.test_hmi_answers import BusyStation
from tests.support.page_station import GENEROUS_S, NO_TLS, PageStation, wait_until
from tests.support.small_bundle import write_images


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[PageStation]:
    folder = tmp_path_factory.mktemp("station")
    images = write_images(folder / "images", good=1, defective=1)
    one = PageStation(folder, {"uri": str(images), "rate_fps": 8, "loop": True}, bundle)
    one.settings["snapshots"]["every_nth_ok"] = 1
    with one:
        wait_until(lambda: bool(kept_parts(one)), "a rejected part with its image")
        yield one


def kept_parts(station: PageStation) -> list[dict[str, Any]]:
    return [part for part in station.parts(result="NOK") if part["image"]]


class Description:
    """What a page says of itself."""

    def __init__(self, station: PageStation) -> None:
        self.content = station.json("/api/openapi.json")

    def check(self, answer: httpx.Response, path: str, method: str = "get") -> None:
        """Refuse an answer that is not as described: status, media type and content."""
        described = self.content["paths"][path][method]["responses"][str(answer.status_code)]
        media_type = answer.headers["content-type"].partition(";")[0]
        assert media_type in described["content"], (path, media_type)
        schema = described["content"][media_type].get("schema")
        if schema is not None:
            self.check_content(answer.json(), schema, path)

    def check_content(self, content: object, schema: dict[str, Any], where: str) -> None:
        whole = {**schema, "components": self.content["components"]}
        faults = [str(fault) for fault in Draft202012Validator(whole).iter_errors(content)]
        assert faults == [], where

    def schema(self, model: str) -> dict[str, Any]:
        return {"$ref": f"#/components/schemas/{model}"}


@pytest.fixture(scope="module")
def description(station: PageStation) -> Description:
    return Description(station)


def test_every_route_is_described(description: Description) -> None:
    page = application(
        Application(
            title="Cell 7",
            language="en",
            view=LiveView(1, lambda _: None),
            station=BusyStation(),
            guard=Guard(token=None),
            parts=PartQueries(Path("nowhere"), None),
            numbers=ProductionStats(Path("nowhere"), ["06:00"]),
            taught=TaughtImages(None),
        )
    )
    served = {
        (route.path, method.lower())
        for route in page.app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }

    paths = description.content["paths"]
    assert description.content["openapi"].startswith("3.1")
    assert served == {(path, method) for path, found in paths.items() for method in found}
    assert len(served) == len(page.app.routes)


def test_every_answer_to_a_reader_is_as_described(
    station: PageStation, description: Description
) -> None:
    part = kept_parts(station)[0]
    values = {"seq": part["seq"], "id": part["id"], "which": "overlay", "name": "page.js"}
    values["number"] = 1
    queries = {"/api/threshold/preview": {"image_threshold": "100000"}}

    for path, methods in description.content["paths"].items():
        if path == "/api/stream" or "get" not in methods:
            continue
        answer = station.get(path.format(**values), params=queries.get(path))
        # A live image is there only while somebody watches; nothing is taught here.
        absent = path in ("/live/{id}", "/teach/{which}/{number}")
        assert answer.status_code == (404 if absent else 200), path
        description.check(answer, path)


def test_refusals_are_as_described(station: PageStation, description: Description) -> None:
    for path, given, status in (
        ("/api/parts", "/api/parts?result=FINE", 400),
        ("/api/parts/{seq}", "/api/parts/x", 404),
        ("/images/{id}/{which}", "/images/x/picture", 404),
        ("/static/{name}", "/static/none", 404),
    ):
        answer = station.get(given)
        assert answer.status_code == status, path
        description.check(answer, path)
    foreign = station.get("/readyz", headers={"host": "evil.example"})
    assert foreign.status_code == 421
    description.check(foreign, "/readyz")


def test_every_event_of_the_stream_is_as_described(
    station: PageStation, description: Description
) -> None:
    models = {"status": "ViewerStatus", "part": "ShownPart", "alive": "StationSilence"}
    described = description.content["paths"]["/api/stream"]["get"]["responses"]["200"]
    listed = described["content"]["text/event-stream"]["schema"]["anyOf"]
    assert listed == [description.schema(model) for model in models.values()]

    seen: set[str] = set()
    stream_url = station.address + "/api/stream"
    with httpx.stream("GET", stream_url, timeout=GENEROUS_S, verify=NO_TLS) as stream:
        kind = ""
        for line in stream.iter_lines():
            name, _, text = line.partition(": ")
            if name == "event":
                kind = text
            elif name == "data":
                content = json.loads(text)
                description.check_content(content, description.schema(models[kind]), kind)
                seen.add("image" if content.get("image") else kind)
            if seen >= {"status", "image"}:
                break


def test_every_action_and_its_answer_are_as_described(
    station: PageStation, description: Description
) -> None:
    path = "/api/actions/{name}"
    bodies: dict[str, dict[str, Any]] = {
        "unlock": {},
        "capture": {"count": 1},
        "feedback": {"seq": kept_parts(station)[0]["seq"], "mark": "false_reject"},
        "threshold": {"image_threshold": 100_000.0},
        "mask": {
            "before": "",
            "drawing": {
                "width_px": 160,
                "height_px": 120,
                "ignore": [[[0, 0], [40, 0], [40, 40]]],
                "zones": [{"name": "rim", "polygon": [[80, 0], [150, 0], [150, 60]]}],
            },
        },
        "rollback": {"comment": "as it was"},
        "recipe": {"id": "nut", "version": 2},
        "acknowledge": {"reason": "drift"},
        "teach": {"recipe": "nut"},
        "teach_capture": {"automatic": "changed"},
        "teach_strike": {"number": 1, "struck": True},
        "teach_build": {"views": True},
        "teach_trial": {"running": True},
        "teach_release": {"comment": "good"},
        "teach_end": {},
    }
    assert bodies.keys() == ACTIONS.keys()
    operation = description.content["paths"][path]["post"]
    assert operation["parameters"][0]["schema"]["enum"] == list(ACTIONS)
    schema = operation["requestBody"]["content"]["application/json"]["schema"]

    for name, body in bodies.items():
        description.check_content(body, schema, name)
        answer = station.act(name, body)
        # There is no alarm to acknowledge here, no recipe and no teacher.
        refused = name in ("acknowledge", "recipe") or name.startswith("teach")
        assert answer.status_code == (409 if refused else 200), answer.text
        description.check(answer, path, "post")
    description.check(station.act("capture", {"count": 1}, authorization=None), path, "post")
    wait_until(lambda: bool(station.json("/api/feedback")["feedback"]), "the mark")
    description.check(station.get("/api/feedback"), "/api/feedback")
    description.check(station.get("/api/numbers"), "/api/numbers")  # with events of all kinds
