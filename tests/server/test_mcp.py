"""The tools of an agent, called by the SDK's own client: in this process with a real worker, and as a program."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from homereel import media
from homereel.jobs.store import JobStore
from homereel.server.mcp import make_server
from homereel.server.planner import Planner
from homereel.server.plans_here import PlansHere
from homereel.server.settings import Settings
from tests.server.conftest import png
from tests.server.running import working


@pytest.fixture
def mcp() -> Any:
    """The SDK, which costs a second to import: only a process that runs these tests pays it."""
    return pytest.importorskip("mcp")


async def _call(client: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    told: dict[str, Any] = json.loads(answer.content[0].text)
    return told


@pytest.mark.anyio
async def test_an_agent_plans_makes_and_fetches_a_film(mcp: Any, data: Path, tmp_path: Path, at_home: None) -> None:
    picture = tmp_path / "first.png"
    picture.write_bytes(png())
    with JobStore.in_folder(data) as store:
        async with mcp.Client(make_server(store, data=data, planner=Planner(PlansHere(), any_folder=True))) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == {"plan", "generate", "status", "fetch"}
            wish = {"prompt": "a red ball", "model": "tiny-image", "image": str(picture), "seed": 7, "width": 33}
            plan = await _call(client, "plan", **wish)
            assert (plan["width"], plan["num_frames"], plan["seed"]) == (32, 5, 7)
            assert any("using 32" in note for note in plan["notes"])
            job = await _call(client, "generate", **wish)
            assert job["status"] == "queued"
            early = await client.call_tool("fetch", {"id": job["id"]})
            assert early.is_error
            assert "no clip" in early.content[0].text
            with working(Settings(data=data)):
                ended = await _call(client, "status", id=job["id"], wait_seconds=60)
            assert (ended["status"], ended["progress"]) == ("completed", 100)
            words, sheet = (await client.call_tool("fetch", {"id": job["id"]})).content
            assert media.probe(Path(words.text.partition(" (")[0])).width == 32
            assert sheet.mime_type == "image/jpeg"


@pytest.mark.anyio
async def test_an_agent_is_told_what_was_wrong(mcp: Any, data: Path, at_home: None) -> None:
    with JobStore.in_folder(data) as store:
        async with mcp.Client(make_server(store, data=data, planner=Planner(PlansHere(), any_folder=True))) as client:
            for tool, arguments, words in (
                ("plan", {"prompt": "a ball", "model": "tini"}, "did you mean tiny"),
                ("generate", {"prompt": "a ball", "model": "tiny-image", "image": "/nowhere.png"}, "no file"),
                ("generate", {"prompt": ""}, "describe what to see"),
                ("status", {"id": "video_gone"}, "no job"),
            ):
                answer = await client.call_tool(tool, arguments)
                assert answer.is_error
                assert words in answer.content[0].text
        assert sum(store.counts().values()) == 0


@pytest.mark.anyio
async def test_an_agent_starts_it_as_a_program(mcp: Any, data: Path) -> None:
    with JobStore.in_folder(data) as store:
        job = store.submit({"prompt": "a red ball"}, model="pocket")
    words = ["-m", "homereel", "mcp", "--workers", "0", "--data", str(data)]
    program = mcp.StdioServerParameters(command=sys.executable, args=words, env=dict(os.environ))
    async with mcp.Client(program, read_timeout_seconds=300) as client:
        assert len((await client.list_tools()).tools) == 4
        told = await _call(client, "status", id=job.id)
    assert (told["id"], told["status"]) == (job.id, "queued")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
