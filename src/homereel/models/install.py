"""Brings models of the catalogue onto this machine, and takes them away."""

from __future__ import annotations

from dataclasses import dataclass

from homereel.core.errors import InvalidRequest
from homereel.models.accepted import is_accepted
from homereel.models.card import ModelCard
from homereel.models.registry import find_card, is_catalogued
from homereel.weights.file_index import read_index
from homereel.weights.hub import fetch_model, remove_model
from homereel.weights.hub_listing import Parts
from homereel.weights.imported import imported_model, remove_imported
from homereel.weights.installed import Installed, installed_model, read_marker, remove_marker, write_marker
from homereel.weights.transfer import OnForecast, OnNote, OnTransfer, ShouldStop


@dataclass(frozen=True)
class Pulled:
    """What a pull did."""

    id: str
    path: str
    num_bytes: int
    fetched_bytes: int
    reused_bytes: int


def check_pullable(card: ModelCard, *, anyway: bool) -> None:
    """Raises InvalidRequest if there is nothing to fetch, or nothing that could be used."""
    if not card.repo:
        raise InvalidRequest(f"{card.id} comes with homereel; there is nothing to fetch", field="model")
    if card.pickled:
        raise InvalidRequest(
            f"{card.id} is published as pickled weights only, which can run code; they are not fetched for you: take "
            f"its .pth from https://huggingface.co/{card.repo}, then `homereel models import FILE` opens it safely",
            field="model",
        )
    if not card.supported and not anyway:
        raise InvalidRequest(
            f"{card.id} cannot be run by this version of homereel yet; fetch it all the same with --anyway, "
            "or take one that can, see `homereel models`",
            field="model",
        )


def pull_model(
    model: str,
    *,
    anyway: bool = False,
    on_forecast: OnForecast | None = None,
    on_transfer: OnTransfer | None = None,
    on_note: OnNote | None = None,
    should_stop: ShouldStop | None = None,
) -> Pulled:
    """Fetch a model of the catalogue, or what is missing of it, and note that it is here.

    Its licence must have been accepted (`homereel.models.accepted`) if it restricts the user.
    Raises UnknownModel, InvalidRequest, WeightsError or Stopped; what has come stays for the next try.
    """
    card = find_card(model)
    check_pullable(card, anyway=anyway)
    if not is_accepted(card.licence):
        raise InvalidRequest(
            f"{card.id} is under the licence {card.licence.name} ({card.licence.terms}): read {card.licence.url}, "
            "then run the command again with --accept-licence",
            field="licence",
        )
    here = installed_model(card.id, repo=card.repo)
    if here is not None:
        return Pulled(card.id, str(here.snapshot), here.num_bytes, fetched_bytes=0, reused_bytes=0)
    fetched = fetch_model(
        card.repo,
        parts=Parts(extra=card.extra_parts, unused=card.unused_parts),
        index=read_index(),
        on_forecast=on_forecast,
        on_transfer=on_transfer,
        on_note=on_note,
        should_stop=should_stop,
    )
    marked = Installed(card.repo, fetched.revision, fetched.snapshot, fetched.files)
    write_marker(card.id, marked)
    return Pulled(
        card.id,
        str(fetched.snapshot),
        marked.num_bytes,
        fetched_bytes=fetched.fetched_bytes,
        reused_bytes=fetched.reused_bytes,
    )


def remove_pulled(model: str) -> int:
    """Take a fetched or imported model away, also one that is whole no more; returns the bytes that are free again.

    Raises UnknownModel, or InvalidRequest if it was never fetched.
    """
    if not is_catalogued(model) and imported_model(model) is not None:
        return remove_imported(model)
    card = find_card(model)
    marked = read_marker(card.id)
    if marked is None:
        what = "comes with homereel and stays" if not card.repo else "is not here: nothing was fetched by homereel"
        raise InvalidRequest(f"{card.id} {what}", field="model")
    freed = remove_model(marked.repo, revision=marked.revision, names=marked.files)
    remove_marker(card.id)
    return freed
