"""/api/v1/uploads: bring a file, see it, take it away. A request names it by its id."""

from __future__ import annotations

from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Path, Request
from pydantic import BaseModel
from starlette.responses import FileResponse, Response

from homereel.core.errors import InvalidRequest
from homereel.server.errors import ErrorAnswer, answer
from homereel.server.form import read_form
from homereel.server.parts import Here

router = APIRouter(prefix="/api/v1/uploads", tags=["uploads"], responses={"4XX": {"model": ErrorAnswer}})

UploadId = Annotated[str, Path(description="The upload's id: file_ and 32 hexadecimal digits.")]
_FORM = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary"}},
    "required": ["file"],
}
_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}


class UploadObject(BaseModel):
    """A file that is here; it stays until it is removed, or for a week."""

    id: str
    object: Literal["file"]
    kind: str
    bytes: int
    sha256: str | None


class UploadDeleted(BaseModel):
    """That it is gone."""

    id: str
    deleted: bool


@router.post("", response_model=UploadObject, openapi_extra=_BODY, status_code=201)
async def bring_file(here: Here, request: Request) -> Response:
    """A picture, a clip or a LoRA, as the form field `file`. Its name and type are not looked at, its content is."""
    form = await read_form(request, box=here.uploads, max_inline_bytes=here.settings.max_json_bytes)
    upload = form.files.get("file")
    if upload is None or len(form.files) > 1:
        form.drop_files()
        raise InvalidRequest("send one file, as the form field `file`", field="file")
    return answer(upload.as_dict(), status=201)


@router.get("/{upload_id}", response_model=UploadObject)
def show_upload(here: Here, upload_id: UploadId) -> Response:
    """What is known of it."""
    return answer(here.uploads.find(upload_id, field="upload").as_dict())


@router.get("/{upload_id}/content", response_class=Response, responses={200: {"content": {"*/*": {}}}})
def download_upload(here: Here, upload_id: UploadId) -> Response:
    """The file itself, to be saved and not shown as a page."""
    found = here.uploads.find(upload_id, field="upload")
    return FileResponse(
        found.path,
        media_type="application/octet-stream",
        filename=found.path.name,
        content_disposition_type="attachment",
    )


@router.delete("/{upload_id}", response_model=UploadDeleted)
async def remove_upload(here: Here, upload_id: UploadId) -> Response:
    """Take it away; jobs that were made with it keep their copies."""
    await to_thread.run_sync(here.uploads.remove, upload_id)
    return answer({"id": upload_id, "deleted": True})
