"""A language model on this machine that writes prompts: a folder in the layout of transformers, with safetensors.

Nothing is downloaded, and no code that comes with a model is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from homereel.core.errors import WeightsError
from homereel.workflows.prompts import Write

MAX_NEW_TOKENS = 300


def read_writer(folder: str | Path) -> Write:
    """The model as a function from an instruction to its answer; it is loaded when it is first asked, and always gives
    its likeliest answer. Raises WeightsError, when it is asked, for a folder that holds no such model.
    """
    loaded: list[tuple[Any, Any]] = []

    def write(instruction: str) -> str:
        if not loaded:
            loaded.append(_load(Path(folder)))
        return _answer(*loaded[0], instruction)

    return write


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (folder / "config.json").is_file():
        raise WeightsError(f"{folder} holds no language model; give a folder with config.json, a tokenizer and weights")
    where = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **where)
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype="auto", **where)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{folder} holds no language model that can be read: {reason}") from None
    return tokenizer, model.eval()


def _answer(tokenizer: Any, model: Any, instruction: str) -> str:
    import torch

    if tokenizer.chat_template is not None:
        messages = [{"role": "user", "content": instruction}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    else:
        text = instruction
    tokens = tokenizer(text, return_tensors="pt").input_ids
    with torch.inference_mode():
        out = model.generate(tokens, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    answer: str = tokenizer.decode(out[0, tokens.shape[1] :], skip_special_tokens=True)
    return answer
