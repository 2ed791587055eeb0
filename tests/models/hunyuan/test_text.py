"""The texts of HunyuanVideo-1.5: the chat, the letters of what is in quotes, and who reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from homereel.core.errors import WeightsError
from homereel.core.inputs import Inputs
from homereel.models.hunyuan.text import INSTRUCTION_TOKENS, MAX_GLYPH_TOKENS, ChatTokenizer, glyph_ids, glyph_text
from tests.models.hunyuan.calls import CPU, family_of, plan_of


@pytest.mark.parametrize(
    "prompt",
    [
        'a sign says "Hi"',
        'signs say "one", "two" and "one"',
        '“curly” and "straight" and “mixed"',
        "nothing's quoted",
        'empty ""',
        'a half "quote',
    ],
)
def test_quoted_texts_are_found_as_diffusers_does(prompt: str) -> None:
    from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import extract_glyph_texts

    assert glyph_text(prompt) == extract_glyph_texts(prompt)


@pytest.mark.parametrize("text", ['Text "Hi". ', 'Text "grün 店". ', 'Text "' + "x" * 300 + '". '])
def test_letters_are_byt5s(text: str) -> None:
    from transformers import ByT5Tokenizer

    theirs = ByT5Tokenizer()(text, max_length=MAX_GLYPH_TOKENS, truncation=True).input_ids
    assert glyph_ids(text) == theirs


def test_the_instruction_is_as_long_as_the_model_was_trained_with(words_dir: Path) -> None:
    tokenizer = ChatTokenizer(words_dir / "tokenizer" / "tokenizer.json", max_tokens=1000)
    one, other = tokenizer.ids("a red ball"), tokenizer.ids("green")
    same = next(index for index, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    assert same == INSTRUCTION_TOKENS
    assert tokenizer.num_cut("a red ball") == 0
    assert tokenizer.num_cut("a" + " ball" * 1000) == 1 + 5, "with the five tokens that end the chat"


def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="missing"):
        ChatTokenizer(tmp_path / "tokenizer.json", max_tokens=4)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="no tokenizer"):
        ChatTokenizer(tmp_path / "tokenizer.json", max_tokens=4)


def test_a_tokenizer_of_another_model_is_refused(words_dir: Path) -> None:
    family = family_of(words_dir)
    encoder: Any = family.load("text_encoder", **CPU)
    encoder.config.vocab_size = 100
    with pytest.raises(WeightsError, match="knows more words"):
        family.encode_words(encoder, "a red ball")


def test_the_letters_encoder_is_loaded_only_for_quoted_texts(words_dir: Path) -> None:
    family, lent = family_of(words_dir), []

    @contextmanager
    def use(name: str) -> Iterator[Any]:
        lent.append(name)
        yield family.load(name, **CPU)

    plan = plan_of(family)
    assert family.compares_words(plan)
    without = family.encode(
        Inputs(prompt="a red ball"), plan=plan, use=use, words=family.read_words(["a red ball", ""], use=use)
    )
    assert lent == ["text_encoder"]
    assert without.prompt.glyphs.shape == (1, 0, 12)
    family.read_words(["a red ball", '"no"'], use=use)
    assert lent == ["text_encoder"] * 2 + ["text_encoder_2"]
