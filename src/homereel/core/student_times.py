"""The times that students of rCM (Zheng et al. 2025, arXiv 2510.08431) visit: figures alone, so that plans have them.

rCM counts time as an angle t of TrigFlow; sigma = sin t / (cos t + sin t), see `sampling/rcm.py`.
"""

from __future__ import annotations

import math

STUDENT_SAMPLERS = ("rcm", "rcm-ode")
MAX_STEPS = 4
SIGMA_MAX = 80.0
# What is visited between the first angle, which sigma_max gives, and the picture.
_ANGLES = (1.5, 1.4, 1.0)


def rcm_times(num_steps: int, *, sigma_max: float = SIGMA_MAX) -> tuple[float, ...]:
    """The shares of noise that a student visits in 1 to 4 steps, the last one 0.

    `sigma_max` is the tangent of the first angle: 80 for words to video, 200 where a picture is the start; more is
    sharper and less diverse. Raises ValueError for other numbers of steps, for which no times were published, and for a
    sigma_max below the second time.
    """
    if not 1 <= num_steps <= MAX_STEPS:
        raise ValueError(f"rCM has times for 1 to {MAX_STEPS} steps, not {num_steps}")
    angles = (math.atan(sigma_max), *_ANGLES[: num_steps - 1])
    if sigma_max <= 0 or (num_steps > 1 and angles[0] <= angles[1]):
        raise ValueError(f"sigma_max {sigma_max:g} is below the next time, {math.tan(_ANGLES[0]):.1f}")
    return (*(math.sin(angle) / (math.cos(angle) + math.sin(angle)) for angle in angles), 0.0)
