"""`homereel models` and `homereel models info`."""

from __future__ import annotations

from homereel.models.catalogue import CATALOGUE
from homereel.models.registry import default_model
from tests.cli.conftest import Cli


def test_list(cli: Cli) -> None:
    shown = cli("models")
    assert (shown.code, shown.err) == (0, "")
    assert all(card.id in shown.out for card in CATALOGUE)
    assert next(line for line in shown.out.splitlines() if "turbowan2.2" in line).split()[1:3] == ["by", "import"]
    told = cli("models", "--json").json
    assert told["default"] == default_model()
    assert [model["id"] for model in told["models"]] == [card.id for card in CATALOGUE]
    assert {"family", "tasks", "licence", "bytes", "installed", "supported"} <= set(told["models"][0])
    assert told["models"][0]["licence"]["kind"] == "open"


def test_info_of_one(cli: Cli) -> None:
    shown = cli("models", "info", "wan2.1-t2v-1.3b")
    assert shown.code == 0
    for words in ("Apache-2.0", "832x480", "28.9 GB", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"):
        assert words in shown.out
    told = cli("models", "info", "wan2.1-t2v-1.3b", "--json").json
    assert told["models_that_understand_more"] == []
    assert told["defaults"]["num_frames"] == 81


def test_info_of_pocket_names_who_understands_more(cli: Cli) -> None:
    told = cli("models", "info", "pocket", "--json").json
    assert "wan2.1-t2v-1.3b" in told["models_that_understand_more"]
