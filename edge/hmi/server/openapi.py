"""The description of the interface (OpenAPI 3.1), made from its operations and their models."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from edge.hmi.contents import Content
from edge.hmi.server.answer_models import Problem

Handler = Callable[[Request], Awaitable[Response]]

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answers.

    Attributes:
        media_types: one of them.
        models: of its content, where that is JSON; of several, one.
    """

    description: str
    media_types: tuple[str, ...] = (JSON,)
    models: tuple[type[Content], ...] = ()

    def content(self) -> dict[str, Any]:
        """Return it as the description has it."""
        schema = {"schema": _union(self.models)} if self.models else {}
        return dict.fromkeys(self.media_types, schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Something that can be asked, with everything that its description says.

    Attributes:
        path_model, query: parameters; None without any.
        bodies: of the request; one of them.
        answers: by status.
        refusals: statuses of an answer that is a ``Problem``.
    """

    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, Answer]
    method: str = "GET"
    path_model: type[Content] | None = None
    query: type[Content] | None = None
    headers: Sequence[Mapping[str, Any]] = field(default=())
    bodies: Mapping[str, type[Content]] = field(default_factory=dict)
    refusals: tuple[int, ...] = ()

    def models(self) -> set[type[Content]]:
        """Return everything that the description of this operation refers to."""
        answered = {model for answer in self.answers.values() for model in answer.models}
        given = {model for model in (self.path_model, self.query) if model is not None}
        return answered | given | set(self.bodies.values())


def describe(title: str, about: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the description of an interface.

    Args:
        about: what holds for all of it.
    """
    answers: set[type[Content]] = {Problem}
    for one in operations:
        answers.update(model for answer in one.answers.values() for model in answer.models)
    given = {model for one in operations for model in one.models()} - answers
    ordered = sorted(given | answers, key=_name)
    _, found = models_json_schema(
        [(model, "validation" if model in given else "serialization") for model in ordered],
        ref_template="#/components/schemas/{model}",
    )
    schemas = found["$defs"]
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _described(one, schemas)
    parameters = {m.__name__ for one in operations for m in (one.path_model, one.query) if m}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": about},
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {name: one for name, one in schemas.items() if name not in parameters},
        },
    }


def _described(operation: Operation, schemas: Mapping[str, Any]) -> dict[str, Any]:
    problem = {JSON: {"schema": _reference(Problem)}}
    answers = {
        status: {"description": one.description, "content": one.content()}
        for status, one in operation.answers.items()
    }
    refusals = {
        status: {"description": "Not done; cause and next step", "content": problem}
        for status in operation.refusals
        if status not in answers
    }
    described: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": [
            *_parameters(operation.path_model, "path", schemas),
            *_parameters(operation.query, "query", schemas),
            *operation.headers,
        ],
        "responses": {str(status): one for status, one in sorted((answers | refusals).items())},
    }
    if operation.bodies:
        schema = _union(tuple(operation.bodies.values()))
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
        described["security"] = [{"token": []}]
    return described


def _parameters(
    model: type[Content] | None, place: str, schemas: Mapping[str, Any]
) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = schemas[model.__name__]
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": place,
            "required": name in required,
            "description": one.get("description", ""),
            "schema": {key: value for key, value in one.items() if key != "description"},
        }
        for name, one in schema["properties"].items()
    ]


def _union(models: tuple[type[Content], ...]) -> dict[str, Any]:
    references = [_reference(model) for model in models]
    return references[0] if len(references) == 1 else {"anyOf": references}


def _reference(model: type[Content]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _name(model: type[Content]) -> str:
    return model.__name__
