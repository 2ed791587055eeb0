"""The only place where homereel reads environment variables; a malformed one is an error, never a guess."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from homereel.core.errors import InvalidRequest

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})
_DEVICES = ("cpu", "cuda")
_DTYPES = ("float32", "bfloat16")
_WORDS_GB = 2.0


@dataclass(frozen=True)
class Environment:
    """What the user's surroundings say: HOMEREEL_OFFLINE, HOMEREEL_HOME, HOMEREEL_DEVICE, HOMEREEL_DTYPE,
    HOMEREEL_TOKEN, HOMEREEL_WORDS_GB.
    """

    offline: bool
    home: Path
    device: str | None
    dtype: str | None = None  # the format of numbers; else the one in which the machine computes fastest
    token: str | None = field(default=None, repr=False)  # what a server asks of its clients
    words_bytes: int = round(_WORDS_GB * 10**9)  # what text encoders made, kept on the disk; 0 keeps nothing


def read_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Read the variables (the process's own by default).

    Raises InvalidRequest, with the variable's name as field, if one is malformed.
    """
    values = os.environ if variables is None else variables
    return Environment(
        offline=_flag(values, "HOMEREEL_OFFLINE"),
        home=_home(values),
        device=_one_of(values, "HOMEREEL_DEVICE", _DEVICES, kind="device"),
        dtype=_one_of(values, "HOMEREEL_DTYPE", _DTYPES, kind="format of numbers"),
        token=values.get("HOMEREEL_TOKEN", "").strip() or None,
        words_bytes=_words_bytes(values),
    )


def asked_threads(variables: Mapping[str, str] | None = None) -> int | None:
    """How many threads a processor's libraries are told to use (OMP_NUM_THREADS), or None.

    The variable is theirs, who take only its first number and heed nothing else.
    """
    word = (os.environ if variables is None else variables).get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(word) if word.isdigit() and int(word) > 0 else None


def heap_is_told(variables: Mapping[str, str] | None = None) -> bool:
    """Whether somebody tells the C library's heap what to do: glibc's MALLOC_…_ and GLIBC_TUNABLES."""
    values = os.environ if variables is None else variables
    return any(name == "GLIBC_TUNABLES" or (name.startswith("MALLOC_") and name.endswith("_")) for name in values)


@dataclass(frozen=True)
class Launcher:
    """This process's place among those that torchrun started."""

    rank: int
    count: int
    local_rank: int


def read_launcher(variables: Mapping[str, str] | None = None) -> Launcher | None:
    """What torchrun says (RANK, WORLD_SIZE, LOCAL_RANK), or None where it did not start this process.

    Raises InvalidRequest if one of the three is no number or missing beside the others.
    """
    values = os.environ if variables is None else variables
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not any(name in values for name in names):
        return None
    for name in names:
        if not values.get(name, "").isdigit():
            raise InvalidRequest(f"{name} is {values.get(name, '')!r} where torchrun gives a number", field=name)
    rank, count, local_rank = (int(values[name]) for name in names)
    return Launcher(rank, count, local_rank)


def variables_with(*, token: str | None) -> dict[str, str]:
    """The surroundings for a server that takes this process's place; in them no other user can read the token."""
    return {**os.environ, **({} if token is None else {"HOMEREEL_TOKEN": token})}


def hand_on(*, offline: bool) -> None:
    """What processes that this one starts will find: they stay offline as well, and have no use for the token."""
    os.environ.pop("HOMEREEL_TOKEN", None)
    if offline:
        os.environ["HOMEREEL_OFFLINE"] = "1"


def _flag(values: Mapping[str, str], name: str) -> bool:
    word = values.get(name, "").strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidRequest(f"{name}={values[name]!r} is neither 1 nor 0; set it to one of these", field=name)


def _one_of(values: Mapping[str, str], name: str, allowed: tuple[str, ...], *, kind: str) -> str | None:
    word = values.get(name, "").strip().lower()
    if not word:
        return None
    if word not in allowed:
        raise InvalidRequest(f"{name}={word!r} is no {kind}; use {' or '.join(allowed)}, or unset it", field=name)
    return word


def _words_bytes(values: Mapping[str, str]) -> int:
    word = values.get("HOMEREEL_WORDS_GB", "").strip() or f"{_WORDS_GB}"
    try:
        size = round(float(word) * 10**9)
    except (ValueError, OverflowError):  # no number, infinite, or none at all
        size = -1
    if size < 0:
        raise InvalidRequest(
            f"HOMEREEL_WORDS_GB={word!r} is no size; give so many GB, such as 2, or 0 to keep nothing",
            field="HOMEREEL_WORDS_GB",
        )
    return size


def _home(values: Mapping[str, str]) -> Path:
    """Where homereel keeps its own files: HOMEREEL_HOME, else the platform's folder for user data."""
    given = values.get("HOMEREEL_HOME", "").strip()
    if given:
        path = Path(given).expanduser()
        if not path.is_absolute():
            raise InvalidRequest(f"HOMEREEL_HOME={given!r} is not an absolute path", field="HOMEREEL_HOME")
        return path
    if sys.platform == "win32":
        return Path(values.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "homereel"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "homereel"
    return Path(values.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "homereel"
