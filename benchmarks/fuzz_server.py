"""schemathesis against the server by its own description: nothing that is sent may be answered 5xx, or end it.

Usage: python benchmarks/fuzz_server.py [--seconds 150] [--examples 15] [--json FILE]; needs homereel[fuzz].

The event stream is left out: it never ends. No worker runs, so what is accepted only piles up in a temporary folder.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from served import Served, served

REQUEST_SECONDS = 60


def fuzz(server: Served, *, seconds: int, examples: int, report: Path) -> dict[str, Any]:
    """How many requests were sent and how they were answered; `report` keeps what schemathesis says of the run."""
    _warm(server)
    words = [f"http://127.0.0.1:{server.port}/openapi.json", "--exclude-path", "/api/v1/events"]
    words += ["--checks", "not_a_server_error", "--continue-on-failure", "--generation-deterministic", "--no-color"]
    words += ["--max-examples", str(examples), "--max-time", str(seconds), "--request-timeout", str(REQUEST_SECONDS)]
    words += ["--report", "ndjson", "--report-ndjson-path", str(report)]
    before = server.held()
    done = subprocess.run([sys.executable, "-m", "schemathesis.cli", "run", *words], cwd=report.parent, check=False)
    lines = server.log.read_text(encoding="utf-8").splitlines()[1:]
    return {
        "exit_code": done.returncode,
        **_answers(report),
        "server_lives": server.process.poll() is None,
        "server_said": lines[:20],
        "before": before,
        "after": server.held(),
    }


def _warm(server: Served) -> None:
    """The first plan imports what planning needs, which may take longer than a request should."""
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    body = json.dumps({"prompt": "a red ball", "model": "pocket"})
    line.request("POST", "/api/v1/plan", body, {"content-type": "application/json"})
    answer = line.getresponse()
    told = answer.read()
    line.close()
    if answer.status != 200:
        raise SystemExit(f"a plan was answered {answer.status}: {told!r}")


def _answers(report: Path) -> dict[str, Any]:
    """Requests and answers by status, out of the report's lines."""
    statuses: dict[str, int] = {}
    for line in report.read_text(encoding="utf-8").splitlines():
        _count(json.loads(line), statuses)
    return {"requests": sum(statuses.values()), "answers": dict(sorted(statuses.items()))}


def _count(node: Any, statuses: dict[str, int]) -> None:
    if isinstance(node, list):
        for each in node:
            _count(each, statuses)
    elif isinstance(node, dict):
        if isinstance(node.get("status_code"), int):
            statuses[str(node["status_code"])] = statuses.get(str(node["status_code"]), 0) + 1
        for each in node.values():
            _count(each, statuses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=150, help="for the whole run")
    parser.add_argument("--examples", type=int, default=15, help="for each operation")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, served(Path(name) / "data") as server:
        told = fuzz(server, seconds=given.seconds, examples=given.examples, report=Path(name) / "report.ndjson")
    text = json.dumps(told, indent=1)
    print(text)
    if given.json is not None:
        given.json.write_text(f"{text}\n", encoding="utf-8")
    if told["exit_code"] or not told["server_lives"] or any(status >= "500" for status in told["answers"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
