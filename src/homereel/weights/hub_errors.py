"""What a failed request to the hub means for the user: one line with the way out, and never a token."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from homereel.core.environment import read_environment
from homereel.core.errors import WeightsError

_SECRET = re.compile(r"hf_[A-Za-z0-9_-]+|(?<=//)[^/@\s]+@|(?<=[Bb]earer )\S+")


def check_online() -> None:
    """Raises WeightsError before anything could open a socket, if this is to stay offline."""
    if read_environment().offline:
        raise WeightsError("HOMEREEL_OFFLINE is set, so nothing is fetched; unset it, or give a folder on this disk")
    from huggingface_hub import constants

    if constants.is_offline_mode():
        raise WeightsError("HF_HUB_OFFLINE is set, so nothing is fetched; unset it, or give a folder on this disk")


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Turn what huggingface-hub and its client raise into a WeightsError."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    transport: type[BaseException] = HfHubHTTPError.__bases__[0]  # the root of the client's own errors
    try:
        yield
    except HfHubHTTPError as error:
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        gated = response is not None and response.headers.get("X-Error-Code") == "GatedRepo"
        raise WeightsError(refusal(repo, status=status, gated=gated)) from None
    except HFValidationError:
        raise WeightsError(f"{repo} is no name of a repository on the hub") from None
    except transport as error:
        raise WeightsError(
            f"{hub_name()} cannot be reached: {reason(error)}; check the connection, then HF_ENDPOINT"
        ) from None


def refusal(repo: str, *, status: int | None, gated: bool) -> str:
    """What to do about an answer of the hub that is none."""
    page = f"https://huggingface.co/{repo}"
    if status in (401, 403) or gated:
        if _has_token():
            return (
                f"the hub does not give {repo} to the owner of this token; accept its terms at {page} "
                "with that account, or set HF_TOKEN to another one"
            )
        return (
            f"the hub gives {repo} only to those who have accepted its terms: accept them at {page}, make a token at "
            "https://huggingface.co/settings/tokens, and set HF_TOKEN to it"
        )
    if status == 404:
        return f"{hub_name()} has no {repo}, or not for you; look at {page}, and set HF_TOKEN if it is private"
    if status == 429:
        return (
            f"{hub_name()} is asked too often from here; wait some minutes, or set HF_TOKEN, then run the same command"
        )
    if status is not None and status >= 500:
        return f"{hub_name()} is out of order ({status}); run the same command again later"
    return f"{hub_name()} answered {status or 'nothing that makes sense'}; check HF_ENDPOINT"


def hub_name() -> str:
    """The host that is asked."""
    from urllib.parse import urlsplit

    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.hostname or 'the hub'}{f':{parts.port}' if parts.port else ''}"


def reason(error: BaseException) -> str:
    """The first line of an error without anything secret."""
    lines = str(error).splitlines()
    return _SECRET.sub("***", lines[0])[:160] if lines else type(error).__name__


def _has_token() -> bool:
    from huggingface_hub import get_token

    return bool(get_token())
