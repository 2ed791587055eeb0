"""The catalogue is complete and holds together; what is not known is None, not a guess."""

from __future__ import annotations

import pytest

from homereel.core.errors import InvalidRequest
from homereel.models.card import ModelCard
from homereel.models.catalogue import CATALOGUE
from homereel.models.families import FAMILIES
from homereel.models.install import check_pullable
from homereel.models.registry import find_card

MULTIPLES = {"wan": 16, "hunyuanvideo-1.5": 16, "ltx-2": 32, "skyreels-v2": 16}
FRAME_RULES = {"wan": 4, "hunyuanvideo-1.5": 4, "ltx-2": 8, "skyreels-v2": 4}
PROMISED = [
    *("wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "wan2.1-i2v-14b-480p", "wan2.1-i2v-14b-720p", "wan2.1-flf2v-14b"),
    *("wan2.1-vace-1.3b", "wan2.1-vace-14b", "wan2.2-t2v-a14b", "wan2.2-i2v-a14b", "wan2.2-ti2v-5b"),
    *("turbowan2.1-t2v-1.3b-480p", "hunyuanvideo-1.5-480p-t2v", "hunyuanvideo-1.5-480p-i2v-step-distilled"),
    *("ltx-2.5", "skyreels-v2-df-1.3b-540p"),
]


@pytest.mark.parametrize("card", CATALOGUE, ids=lambda card: card.id)
def test_every_entry_is_complete(card: ModelCard) -> None:
    assert card.title
    assert card.tasks
    assert len(set(card.tasks)) == len(card.tasks)
    assert card.licence.url.startswith("https://")
    assert bool(card.licence.terms) == card.licence.restricts, "who is restricted must be told how"
    assert card.id == card.id.lower()
    assert card.repo.count("/") == 1 or card.id in ("pocket", "pocket-turbo")
    assert (card.download_bytes == 0) == (card.repo == ""), "unknown is None, not 0"
    clip, multiple = card.defaults, MULTIPLES[card.family]
    assert clip.width is not None
    assert clip.height is not None
    assert clip.width % multiple == clip.height % multiple == 0
    assert clip.num_frames is None or clip.num_frames % FRAME_RULES[card.family] == 1
    assert clip.fps
    assert clip.steps


@pytest.mark.parametrize("card", [card for card in CATALOGUE if card.supported], ids=lambda card: card.id)
def test_what_can_be_run_has_all_that_a_run_needs(card: ModelCard) -> None:
    card.defaults.settled()
    assert card.family in FAMILIES
    assert card.max_sequence_length
    assert not card.pickled


def test_names_and_ranks_are_unique() -> None:
    names = [name for card in CATALOGUE for name in (card.id, *card.aliases)]
    assert len(set(names)) == len(names)
    assert len({card.rank for card in CATALOGUE}) == len(CATALOGUE)
    repos = [card.repo for card in CATALOGUE if card.repo]
    assert len(set(repos)) == len(repos)


@pytest.mark.parametrize("name", PROMISED)
def test_the_promised_models_are_there(name: str) -> None:
    assert find_card(name).id == name


@pytest.mark.parametrize(
    ("bare", "default"),
    [
        ("wan", "wan2.1-t2v-1.3b"),
        ("wan2.1", "wan2.1-t2v-1.3b"),
        ("wan2.2", "wan2.2-ti2v-5b"),
        ("turbowan2.1", "turbowan2.1-t2v-1.3b-480p"),
        ("hunyuanvideo-1.5", "hunyuanvideo-1.5-480p-t2v"),
        ("ltx-2.5", "ltx-2.5"),
        ("skyreels-v2", "skyreels-v2-df-1.3b-540p"),
    ],
)
def test_a_bare_name_means_the_default_variant(bare: str, default: str) -> None:
    assert find_card(bare).id == default


def test_every_family_has_a_bare_name() -> None:
    assert {find_card(card.family).family for card in CATALOGUE} == {card.family for card in CATALOGUE}


def test_what_cannot_be_run_is_not_fetched_unless_asked_for() -> None:
    card = find_card("wan2.1-t2v-1.3b").model_copy(update={"supported": False})
    with pytest.raises(InvalidRequest, match="fetch it all the same with --anyway"):
        check_pullable(card, anyway=False)
    check_pullable(card, anyway=True)
