"""The body of the native API: core's Request as JSON, with files by the ids of uploads or of finished clips, and what
concerns the job alone. An unknown name is refused with the nearest one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homereel.core.errors import InvalidRequest
from homereel.core.request import Request
from homereel.jobs.records import Relation, is_job_id
from homereel.jobs.submit import MAX_PRIORITY
from homereel.server.attachments import map_files
from homereel.server.intake import Wish
from homereel.server.job_files import attached, find_file, job_and_field
from homereel.server.parts import Parts
from homereel.workflows.step import job_place

_FILE = {
    "type": "string",
    "description": "The id of an upload (POST /api/v1/uploads), or for footage that of a finished clip, and for "
    "refine and extend that of any clip made here; or what another job was made from, as video_.../image or "
    "video_.../loras.0.",
}
_JOB_FIELDS: dict[str, Any] = {
    "priority": {
        "type": "integer",
        "default": 0,
        "minimum": -MAX_PRIORITY,
        "maximum": MAX_PRIORITY,
        "description": "Higher goes first.",
    },
    "webhook": {"type": "string", "description": "An address that is told when the job has ended."},
}


def read_wish(body: Mapping[str, Any], parts: Parts) -> Wish:
    """Raises InvalidRequest, UnknownJob or WrongState; of the request's own fields only the files are looked at."""
    fields = dict(body)
    priority, webhook = fields.pop("priority", 0), fields.pop("webhook", None)
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise InvalidRequest("priority: give a whole number; 0 is usual", field="priority")
    parent, relation = _parent(body)
    extra = {} if webhook is None else {"webhook": _checked(webhook, parts)}
    return Wish(read_fields(fields, parts), parent=parent, relation=relation, priority=priority, extra=extra)


def read_fields(body: Mapping[str, Any], parts: Parts) -> dict[str, Any]:
    """The fields of a request, with Attachments for the files that it names."""

    def attach(name: str, value: Any) -> Any:
        if not isinstance(value, str):
            raise InvalidRequest(f"{name}: name a file by the id of its upload", field=name)
        of_job = job_and_field(value)
        if of_job is not None:
            job_id, field, index = of_job
            return attached(find_file(parts.store.get(job_id), field, index), parts.settings.data)
        if name == "video" and is_job_id(value):
            return parts.intake.clip_of(value)
        if name in ("refine", "extend") and is_job_id(value):
            return str(job_place(parts.store.get(value).id))
        return parts.uploads.find(value, field=name).attached(shown=name)

    return map_files(body, attach)


def _parent(body: Mapping[str, Any]) -> tuple[str | None, Relation | None]:
    """The job whose clip is refined or gone on from."""
    relations: dict[str, Relation] = {"refine": "refine", "extend": "extension"}
    for name, relation in relations.items():
        if isinstance(body.get(name), str) and is_job_id(body[name]):
            return body[name], relation
    return None, None


def request_schema() -> dict[str, Any]:
    """The body of POST /api/v1/jobs as JSON Schema, with nothing to look up elsewhere."""
    told = Request.json_schema()
    schema: dict[str, Any] = _as_served(told, told.get("$defs", {}))
    return {**schema, "title": "JobRequest", "properties": {**schema["properties"], **_JOB_FIELDS}}


def _checked(webhook: object, parts: Parts) -> str:
    if not parts.settings.allow_webhooks or parts.settings.offline:
        why = "it is offline" if parts.settings.offline else "it was not started with --allow-webhooks"
        raise InvalidRequest(f"webhook: this server calls nobody, since {why}; follow /api/v1/events", field="webhook")
    if not isinstance(webhook, str):
        raise InvalidRequest("webhook: give the address as https://host/path", field="webhook")
    parts.outbound.check(webhook, field="webhook")
    return webhook


def _as_served(node: Any, definitions: Mapping[str, Any]) -> Any:
    """Definitions in their places, and an id wherever a path was wanted."""
    if isinstance(node, list):
        return [_as_served(each, definitions) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _as_served(definitions[str(node["$ref"]).rpartition("/")[2]], definitions)
    if node.get("format") == "path":
        return _FILE
    return {key: _as_served(value, definitions) for key, value in node.items() if key != "$defs"}
