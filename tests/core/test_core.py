"""Errors, environment, results, and the promise that core and the package's door are light."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from homereel.core import errors
from homereel.core.environment import read_environment
from homereel.core.errors import HomereelError, InvalidRequest
from homereel.core.events import Progress
from homereel.core.machine import Machine
from homereel.core.plan import Plan
from homereel.core.request import Request
from homereel.core.result import Result, Timing, frames_sha256

PLAN = Plan(
    model="m", family="wan", width=32, height=16, num_frames=5, fps=8, steps=2, guidance=1, shift=1,
    sampler="euler", seed=0, device="cpu", dtype="float32", num_tokens=4, weight_bytes=1, peak_bytes=2,
    seconds=None, adjustments=("a",),
)  # fmt: skip


def test_exit_codes_of_the_tree() -> None:
    codes = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, HomereelError)
    }
    assert codes == {
        "HomereelError": 1,
        "InvalidRequest": 2,
        "UnknownModel": 2,
        "UnsupportedInput": 2,
        "MediaError": 2,
        "UnreadableMedia": 2,
        "UnwritableTarget": 2,
        "WeightsError": 1,
        "UnsupportedPass": 2,
        "GenerationFailed": 1,
        "TooLarge": 2,
        "DoesNotFit": 2,
        "RanOutOfMemory": 2,
        "JobsError": 1,
        "UnknownJob": 2,
        "WrongState": 2,
        "KeyReused": 2,
        "LeaseLost": 1,
        "StoreUnavailable": 1,
        "StoreDamaged": 1,
        "Stopped": 130,
    }
    assert all(f"{name} " in (errors.__doc__ or "") for name in codes)


def test_an_invalid_request_names_its_field() -> None:
    assert InvalidRequest("x").field == ""
    assert errors.UnknownModel("x", field="model").field == "model"


def test_every_error_of_the_tree_travels_between_processes_whole() -> None:
    def below(kind: type[HomereelError]) -> set[type[HomereelError]]:
        return {kind}.union(*(below(each) for each in kind.__subclasses__()))

    kinds = below(HomereelError)
    assert {errors.HomereelError, errors.RanOutOfMemory, errors.StoreDamaged, errors.Stopped} <= kinds
    for kind in kinds:
        named = issubclass(kind, InvalidRequest)
        error = kind("what was wrong", field="size") if named else kind("what was wrong")  # type: ignore[call-arg]
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert (str(again), vars(again)) == ("what was wrong", {"field": "size"} if named else {})


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("TRUE", True), ("0", False), ("", False)])
def test_offline_is_read(value: str, offline: bool) -> None:
    assert read_environment({"HOMEREEL_OFFLINE": value}).offline is offline


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOMEREEL_OFFLINE", "maybe"),
        ("HOMEREEL_DEVICE", "tpu"),
        ("HOMEREEL_HOME", "not/absolute"),
        ("HOMEREEL_DTYPE", "fp4"),
    ]
    + [("HOMEREEL_WORDS_GB", value) for value in ("many", "-1", "nan", "inf")],
)
def test_a_malformed_variable_is_an_error(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=name) as caught:
        read_environment({name: value})
    assert caught.value.field == name


def test_home_and_device(tmp_path: Path) -> None:
    assert read_environment({"HOMEREEL_HOME": str(tmp_path)}).home == tmp_path
    assert read_environment({}).home.name == "homereel"
    assert read_environment({}).device is None
    assert read_environment({"HOMEREEL_DEVICE": "CUDA"}).device == "cuda"
    assert [read_environment({"HOMEREEL_DTYPE": word}).dtype for word in ("", "bfloat16")] == [None, "bfloat16"]
    sizes = [read_environment({"HOMEREEL_WORDS_GB": value}).words_bytes for value in ("", "0", "0.5")]
    assert sizes == [2 * 10**9, 0, 5 * 10**8]


def test_environment_variables_are_read_in_one_file_only() -> None:
    source = Path(errors.__file__).parents[1]
    readers = {
        file.relative_to(source).as_posix()
        for file in source.rglob("*.py")
        if "os.environ" in file.read_text(encoding="utf-8") or "getenv" in file.read_text(encoding="utf-8")
    }
    assert "core/environment.py" in readers
    assert not {name for name in readers if "HOMEREEL" in (source / name).read_text("utf-8")} - {"core/environment.py"}


def test_a_plan_as_json() -> None:
    assert PLAN.as_dict()["adjustments"] == ["a"]
    assert PLAN.clip_seconds == 5 / 8


def test_the_machine_picks_its_number_format() -> None:
    def machine(bf16_fast: bool) -> Machine:
        return Machine("cpu", "x", 1, 1, None, bf16_fast)

    assert (machine(True).dtype, machine(False).dtype) == ("bfloat16", "float32")


def test_timing_adds_up() -> None:
    assert Timing(1, 2, 4, 8, 16).total_seconds == 31


def test_the_fingerprint_knows_shape_and_pixels() -> None:
    frames = np.arange(2 * 4 * 3 * 3, dtype=np.uint8).reshape(2, 4, 3, 3)
    assert frames_sha256(frames) == frames_sha256(frames.copy())
    assert frames_sha256(frames) != frames_sha256(frames.reshape(2, 3, 4, 3))
    assert frames_sha256(frames) != frames_sha256(frames[::-1])


def test_saving_goes_to_the_writer_as_it_was_asked() -> None:
    asked: list[object] = []

    def writer(result: Result, target: str | Path, *, quality: int | None, private: bool) -> Path:
        asked.extend([target, quality, private])
        return Path(target)

    frames = np.zeros((1, 2, 2, 3), np.uint8)
    result = Result(frames, 8, Request(prompt="x"), PLAN, Timing(), 0, {}, writer)
    assert result.save("folder/", quality=3, private=True) == Path("folder")
    assert asked == ["folder/", 3, True]
    assert result.frames_sha256 == frames_sha256(frames)


def test_progress_has_quiet_defaults() -> None:
    progress = Progress("load", 0, 1, 0.0)
    assert progress.remaining_seconds is None
    assert progress.preview is None


def test_importing_homereel_and_core_is_cheap() -> None:
    """Nothing heavy may come in with the package, its floor 0, or the names that the package offers."""
    script = (
        "import sys, homereel, homereel.core.protocols, homereel.core.result, homereel.core.environment;"
        "homereel.Request; homereel.Result; homereel.HomereelError;"
        "heavy = {'torch', 'diffusers', 'transformers', 'av', 'PIL'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or None)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_door_offers_what_it_names() -> None:
    import homereel

    assert all(getattr(homereel, name) is not None for name in homereel.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = homereel.no_such_name
