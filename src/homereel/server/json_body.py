"""Reads a JSON object out of a request's body, whatever was sent."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from anyio import to_thread
from starlette.requests import Request

from homereel.core.errors import InvalidRequest

_LARGE_BYTES = 100_000


async def read_json(request: Request) -> dict[str, Any]:
    """The object; an empty one for an empty body. How large it may be is the guard's matter.

    Raises InvalidRequest for anything else, also for a key that is there twice, and for NaN.
    """
    raw = await request.body()
    if not raw.strip():
        return {}
    content = _parse(raw) if len(raw) < _LARGE_BYTES else await to_thread.run_sync(_parse, raw)
    if not isinstance(content, dict):
        raise InvalidRequest("the body must be a JSON object, such as {}".format('{"prompt": "a red ball"}'))
    return content


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_once)
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not UTF-8; JSON always is") from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"the body is no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise InvalidRequest("the body nests too deeply") from None
    except ValueError:  # a number of thousands of digits
        raise InvalidRequest("the body holds a number that is too long") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"{twice[:60]!r} is there twice; keep one")
    return found


def _no_number(word: str) -> NoReturn:
    raise InvalidRequest(f"{word} is no number in JSON")
