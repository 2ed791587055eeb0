"""Tiny models of HunyuanVideo-1.5: one of words, one that begins with a picture and was distilled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_hunyuan import save_tiny_hunyuan


@pytest.fixture(scope="package")
def words_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_hunyuan(tmp_path_factory.mktemp("tiny-hunyuan"))


@pytest.fixture(scope="package")
def picture_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-hunyuan-picture")
    return save_tiny_hunyuan(folder, picture=True, meanflow=True, guidance=1.0, shift=7.0)
