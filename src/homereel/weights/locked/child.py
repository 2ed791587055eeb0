"""The program of the locked process: import, close in, tell what stands, and only then take the bytes.

Standard input and output are its only descriptors. It is started by `process.call_locked`.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from homereel.weights.locked.walls import close_in, leave_network, ways_out


def main(target: str) -> None:
    """Answer one call of `target` ("module:function"), as JSON in two lines: the walls, then what came of it."""
    network = leave_network()
    module_name, _, function = target.partition(":")
    module = importlib.import_module(module_name)
    call = getattr(module, function)
    warm_up = getattr(module, "warm_up", None)  # imports what its functions would import later
    if warm_up is not None:
        warm_up()
    source, out = sys.stdin.buffer, sys.stdout
    try:
        walls, missing = close_in()
    except (OSError, ValueError, AttributeError) as error:
        walls, missing = (), (f"a wall cannot be put up here: {error}",)
    told: dict[str, Any] = {"walls": [*walls, *([network] if network else [])], "missing": missing}
    told["ways_out"] = [] if missing else ways_out()
    print(json.dumps(told), file=out, flush=True)
    print(json.dumps(_answer(call, source.read())), file=out, flush=True)


def _answer(call: Any, data: bytes) -> dict[str, Any]:
    try:
        return {"answer": call(data)}
    except Exception as error:  # noqa: BLE001  # whatever hostile bytes bring about is told, and ends here
        return {"failure": f"{type(error).__name__}: {error}"[:1000]}
