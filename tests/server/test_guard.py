"""Who is let in, from where, with what: cases 8 to 14, 25 and 46 of the suite of reliability and security."""

from __future__ import annotations

import json
import logging
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from homereel.core.errors import InvalidRequest
from homereel.jobs.store import JobStore
from homereel.server.main import bound, read_settings, run
from homereel.server.settings import Settings
from homereel.server.token_file import read_token
from tests.server.conftest import BASE, Serve, error_of, parts_of

TOKEN = "a-token-that-nobody-would-ever-guess"
JOB = {"prompt": "a red ball", "model": "tiny"}
EVIL = "https://evil.example"


def test_case_08_by_default_only_this_machine_is_listened_to(data: Path) -> None:
    settings = read_settings(["--port", "0", "--data", str(data)])
    with bound(settings) as line:
        line.listen()
        host, port = line.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.2", port), timeout=5):
            pass


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.7", "films.example"])
def test_case_09_listening_to_others_needs_a_token(
    address: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--listen", address, "--data", str(data)]) == 2
    complaint = capsys.readouterr().err
    assert "token" in complaint
    assert complaint.count("\n") == 1
    assert not data.exists()


@pytest.mark.parametrize("token", ["short", "x" * 2_000, "sixteen letters\n.", "müssen-ascii-sein"])
def test_case_09_a_poor_token_is_refused(token: str, data: Path) -> None:
    with pytest.raises(InvalidRequest, match="token"):
        Settings(data=data, host="0.0.0.0", token=token)


def test_case_10_another_name_is_refused(client: TestClient) -> None:
    names = (
        "evil.example",
        "evil.example:8420",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.7",
        "[::2]",
    )
    for host in (*names, "a b", ""):
        for path in ("/v1/videos", "/docs", "/health"):
            answer = client.get(path, headers={"host": host})
            assert answer.status_code == 403
            assert error_of(answer)["code"] == "wrong_host"


def test_case_10_its_own_names_are_taken(client: TestClient) -> None:
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8420", "[::1]:8420"):
        assert client.get("/v1/videos", headers={"host": host}).status_code == 200


def test_case_10_where_others_may_come_in_numbers_and_given_names_are_taken(serve: Serve) -> None:
    client = serve(
        host="0.0.0.0", token=TOKEN, allowed_hosts=("films.lan",), headers={"authorization": f"Bearer {TOKEN}"}
    )
    for host, status in (("192.168.1.7:8420", 200), ("films.lan", 200), ("evil.example", 403)):
        assert client.get("/v1/videos", headers={"host": host}).status_code == status


def test_case_11_pages_of_other_sites_change_nothing(client: TestClient, store: JobStore) -> None:
    job = client.post("/api/v1/jobs", json=JOB).json()["id"]
    for origin in (EVIL, "null", "http://localhost:3000", "http://127.0.0.1", "file://", "127.0.0.1:8420", ""):
        headers = {"origin": origin}
        answers = [
            client.post("/api/v1/jobs", json=JOB, headers=headers),
            client.post("/v1/videos", data={"prompt": "a ball"}, headers=headers),
            client.post(f"/api/v1/jobs/{job}/cancel", headers=headers),
            client.delete(f"/v1/videos/{job}", headers=headers),
        ]
        assert [answer.status_code for answer in answers] == [403] * 4
    assert store.counts()["queued"] == 1


def test_case_11_its_own_pages_and_programs_may(client: TestClient) -> None:
    assert client.post("/api/v1/jobs", json=JOB, headers={"origin": BASE}).status_code == 201
    assert client.post("/api/v1/jobs", json=JOB).status_code == 201
    crossing = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert client.get("/v1/videos", headers=crossing).status_code == 403


def test_case_12_the_native_api_takes_only_json(client: TestClient, store: JobStore) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = client.post("/api/v1/jobs", content=json.dumps(JOB), headers={"content-type": kind})
        assert answer.status_code == 415
        assert "application/json" in error_of(answer)["message"]
    assert store.counts()["queued"] == 0


def test_case_12_uploads_are_forms_and_nothing_else(client: TestClient) -> None:
    assert client.post("/api/v1/uploads", json={}).status_code == 415
    assert client.post("/v1/videos", content="x", headers={"content-type": "text/plain"}).status_code == 415


def test_case_13_get_changes_nothing(client: TestClient, store: JobStore, data: Path) -> None:
    job = client.post("/api/v1/jobs", json=JOB).json()["id"]
    before = (store.get(job), store.last_event(), _files(data))
    paths = parts_of(client)
    app: Any = client.app
    for path, methods in app.openapi()["paths"].items():
        if "get" in methods and path != "/api/v1/events":  # which never ends
            filled = path.replace("{job_id}", job).replace("{video_id}", job).replace("{model}", "tiny")
            assert client.get(filled.replace("{upload_id}", "file_" + "0" * 32)).status_code in (200, 400, 404)
    for verb in ("pause", "resume", "cancel", "retry", "move", "priority"):
        assert client.get(f"/api/v1/jobs/{job}/{verb}").status_code == 405
    assert (store.get(job), store.last_event(), _files(data)) == before
    assert paths is parts_of(client)


def _files(data: Path) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in data.rglob("*") if path.is_file() and "sqlite3" not in path.name}


def test_case_14_a_preflight_from_elsewhere_allows_nothing(client: TestClient) -> None:
    for origin in (EVIL, BASE):
        answer = client.options("/api/v1/jobs", headers={"origin": origin, "access-control-request-method": "POST"})
        assert answer.status_code in (403, 405)
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_says_that_it_is_no_page(client: TestClient) -> None:
    for path in ("/v1/videos", "/nothing", "/api/v1/schema"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["cache-control"] == "no-store"


def test_case_25_a_prompt_of_ten_megabytes_is_too_much(client: TestClient) -> None:
    prompt = "a" * 10_000_000
    assert client.post("/api/v1/jobs", json={"prompt": prompt}).status_code == 413
    assert client.post("/v1/videos", json={"prompt": prompt}).status_code == 413
    form = client.post("/v1/videos", data={"prompt": prompt}, files={"input_reference": ("a.png", b"x")})
    assert form.status_code == 413
    assert error_of(form)["code"] == "too_large"


def test_case_25_a_body_that_grows_beyond_what_it_said_is_cut_off(client: TestClient) -> None:
    pieces = (b" " * 100_000 for _ in range(20))
    answer = client.post("/api/v1/jobs", content=pieces, headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_case_25_control_characters_are_cleaned(client: TestClient) -> None:
    body = json.dumps({"prompt": "a\x00 red\x1b[2J \ud800ball\n", "model": "tiny"})
    job = client.post("/api/v1/jobs", content=body, headers={"content-type": "application/json"}).json()
    assert job["request"]["prompt"] == "a red[2J ball"


def test_case_46_without_the_token_nobody_comes_in(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = serve(token=TOKEN)
    for given in (None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"):
        answer = client.get("/v1/videos", headers={} if given is None else {"authorization": given})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.text
    for path in ("/health", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200
    right = {"authorization": f"Bearer {TOKEN}"}
    job = client.post("/api/v1/jobs", json=JOB, headers=right)
    assert job.status_code == 201
    assert TOKEN not in job.text + caplog.text + repr(parts_of(client).settings)


def test_case_46_a_token_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token = read_token(file)
    assert len(token) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_token(file) == token
    file.chmod(0o644)
    with pytest.raises(InvalidRequest, match="chmod 600"):
        read_token(file)


def test_a_token_of_the_surroundings_is_taken(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    monkeypatch.setenv("HOMEREEL_TOKEN", TOKEN)
    assert read_settings(["--listen", "0.0.0.0", "--data", str(data)]).token == TOKEN


def test_a_port_that_is_taken_is_told_in_one_line(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with bound(Settings(data=data, port=0)) as line:
        line.listen()
        assert run(["--port", str(line.getsockname()[1]), "--data", str(data)]) == 2
    assert "another --port" in capsys.readouterr().err
