"""The golden schedules as text. Regenerate after a wanted change, and look at the difference:

python -m tests.sampling.golden_schedules
"""

from __future__ import annotations

from pathlib import Path

from homereel.sampling import SAMPLERS, given_schedule, rcm_times

TEACHERS = ("unipc", "euler")
FOLDER = Path(__file__).parent / "golden"
STEPS = (1, 2, 4, 8, 20, 30, 50)
SHIFTS = (1.0, 2.0, 3.0, 5.0, 8.0)
STUDENT_STEPS = (1, 2, 3, 4)
SIGMA_MAXES = (80.0, 200.0, 1600.0)


def golden_text(sampler: str, *, shift: float) -> str:
    """One block for each number of steps: a line (timestep, sigma) for each step, and the last sigma."""
    blocks = []
    for steps in STEPS:
        schedule = SAMPLERS[sampler].make_schedule(steps, shift=shift)
        times = [f"{time:.4f}" for time in schedule.timesteps.tolist()] + ["end"]
        lines = [f"{time:>9} {sigma:.7f}" for time, sigma in zip(times, schedule.sigmas.tolist(), strict=True)]
        blocks.append("\n".join([f"steps {steps}", *lines]))
    return f"# {sampler}, shift {shift:g}: timestep, sigma\n" + "\n\n".join(blocks) + "\n"


def golden_path(sampler: str, *, shift: float) -> Path:
    return FOLDER / f"{sampler}_shift_{shift:g}.txt"


def student_text(*, sigma_max: float) -> str:
    """The same for students of rCM: the time as the network is told it, and the share of noise."""
    student, blocks = SAMPLERS["rcm"], []
    assert student.told is not None
    for steps in STUDENT_STEPS:
        schedule = given_schedule(rcm_times(steps, sigma_max=sigma_max), dtype=student.dtype)
        told = [f"{time:.0f}" for time in schedule.timesteps.to(student.told).tolist()] + ["end"]
        lines = [f"{time:>4} {sigma:.12f}" for time, sigma in zip(told, schedule.sigmas.tolist(), strict=True)]
        blocks.append("\n".join([f"steps {steps}", *lines]))
    return f"# rcm, sigma_max {sigma_max:g}: timestep as told, sigma\n" + "\n\n".join(blocks) + "\n"


def student_path(*, sigma_max: float) -> Path:
    return FOLDER / f"rcm_sigma_max_{sigma_max:g}.txt"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for start in SIGMA_MAXES:
        student_path(sigma_max=start).write_text(student_text(sigma_max=start), encoding="ascii")
    for name in TEACHERS:
        for bend in SHIFTS:
            golden_path(name, shift=bend).write_text(golden_text(name, shift=bend), encoding="ascii")
