"""Names an object's motion and the camera's from their tracks; anything that the world never does has no name.

All lengths are in the world's units: the camera's pan and zoom are taken out before the object's motion is judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from homereel.training.exam.background import Background
from homereel.training.exam.outline import SYMMETRY, Pose
from homereel.training.world.draw import EYE

TRAVEL, GROWTH, TURN, LIFT, TURNING_LIFT = 0.5, 0.45, 0.55 * math.pi, 0.28, 0.36
"""From here on an object goes sideways, grows, spins or leaves its height. A turning triangle's centre sways."""
CALM_TRAVEL, CALM_GROWTH, CALM_TURN, CALM_LIFT = 0.2, 0.22, 0.4 * math.pi, 0.16
"""Below all of these it stands still; what is between has no name."""
STRAY = 1.5
"""A steady motion's path is at most so many times as long as the way it gains."""
SWING = 0.28
"""Share of the whole height that a rebound must regain to be a bounce."""
MAX_MEAN_SPEED = 1.3
"""Lengths a second that an object may go up and down on the average."""
MAX_SHIVER, MIN_ONWARD = 0.3 * math.pi, 0.8
"""How far an outline may turn to and fro all in all; at least so many steps of a spin go the same way."""
MAX_POSE_ERROR, MIN_VISIBLE, MIN_SHOWN = 0.3, 0.3, 0.6
"""A frame counts below that misfit and from that visible share on; so many of the frames must count."""
PAN, CALM_PAN, ZOOM, CALM_ZOOM = 0.25, 0.15, 0.3, 0.17
MIN_PANEL_FIT = 0.75


@dataclass(frozen=True)
class WorldTrack:
    """Tensors over the frames that show the object well; `lift` is the height of its underside, but for a constant."""

    seconds: Tensor
    x: Tensor
    log_radius: Tensor
    lift: Tensor
    turn: float | None
    """The whole rotation in radians; None where the object turns in jerks."""
    by_outline: bool
    """Whether the outline shows the rotation, or the half-tone of a ball or ring, which is easier to misread."""


def world_track(
    pose: Pose, background: Background, *, shape: str, fps: float, half_turn: float | None
) -> WorldTrack | None:
    """Take a track on the screen into the world; None where too few frames show the object."""
    good = shown_well(pose)
    if int(good.sum()) < max(6, round(MIN_SHOWN * len(good))):
        return None
    pan, zoom = _calmed(background.pan_T), _calmed(background.zoom_T)
    seconds = torch.arange(len(good)) / fps
    x = (pose.x / zoom + pan)[good]
    y = ((pose.y - EYE) / zoom + EYE)[good]
    radius = (pose.radius / zoom)[good]
    by_outline = SYMMETRY[shape] > 0
    turn = half_turn if not by_outline else _whole_turn(pose.angle[good], SYMMETRY[shape])
    return WorldTrack(seconds[good], _calmed(x), _calmed(radius.log()), -y - radius, turn, by_outline)


def shown_well(pose: Pose) -> Tensor:
    """The frames in which enough of the object is in view and its outline fits."""
    return (pose.error < MAX_POSE_ERROR) & (pose.visible > MIN_VISIBLE)


def name_motion(track: WorldTrack) -> str | None:
    """The motion's name."""
    travel, growth = _gain(track.x), _gain(track.log_radius)
    lift = _calmed(track.lift)
    swing = float(lift.quantile(0.97) - lift.quantile(0.03))
    names: list[str | None] = []
    if abs(travel) > TRAVEL:
        steady = _length(track.x) < STRAY * abs(travel)
        names.append(("left" if travel < 0 else "right") if steady else None)
    if abs(growth) > GROWTH:
        steady = _length(track.log_radius) < STRAY * abs(growth)
        names.append(("shrink" if growth < 0 else "grow") if steady else None)
    turns = track.turn is not None and abs(track.turn) > TURN
    if swing > (TURNING_LIFT if turns and track.by_outline else LIFT):
        names.append(_name_vertical(track, swing))
    if turns and (track.by_outline or not names):
        names.append("spin")
    if len(names) == 1:
        return names[0]
    calm = abs(travel) < CALM_TRAVEL and abs(growth) < CALM_GROWTH and swing < CALM_LIFT
    calm = calm and _range(track.x) < CALM_TRAVEL and _range(track.log_radius) < CALM_GROWTH
    if not names and calm and track.turn is not None and abs(track.turn) < CALM_TURN:
        return "still"
    return None


def name_camera(background: Background) -> str | None:
    """The camera's motion; None where the wall is not the world's or the camera does what the world never does."""
    if float(background.fit_T.median()) < MIN_PANEL_FIT:
        return None
    pan, zoom = _calmed(background.pan_T), _calmed(background.zoom_T.log())
    panned, zoomed = _gain(pan), _gain(zoom)
    pans, zooms = abs(panned) > PAN, abs(zoomed) > ZOOM
    if pans and not zooms:
        return ("pan left" if panned < 0 else "pan right") if _length(pan) < STRAY * abs(panned) else None
    if zooms and not pans:
        return ("zoom out" if zoomed < 0 else "zoom in") if _length(zoom) < STRAY * abs(zoomed) else None
    return "static" if _range(pan) < CALM_PAN and _range(zoom) < CALM_ZOOM else None


def _name_vertical(track: WorldTrack, swing: float) -> str | None:
    """Rise, fall or bounce by the great swings of the object's height."""
    seconds = float(track.seconds[-1] - track.seconds[0])
    if _length(track.lift) > MAX_MEAN_SPEED * seconds + 0.35:
        return None
    swings = _swings(_calmed(track.lift).tolist(), SWING * swing)
    if swings == ["up"]:
        return "rise"
    if swings == ["down"]:
        return "fall"
    if len(swings) >= 2 and len(swings) <= 2 + 2.5 * seconds and (swings[0] == "down" or len(swings) >= 3):
        return "bounce"
    return None


def _swings(heights: list[float], least: float) -> list[str]:
    """The directions of a track's swings, leaving out those smaller than `least`."""
    swings: list[str] = []
    low = high = heights[0]
    for height in heights:
        low, high = min(low, height), max(high, height)
        if height - low > least and swings[-1:] != ["up"]:
            swings.append("up")
            high = height
        elif high - height > least and swings[-1:] != ["down"]:
            swings.append("down")
            low = height
        elif swings and height == (high if swings[-1] == "up" else low):
            low = high = height
    return swings


def _whole_turn(angle_T: Tensor, period: float) -> float | None:
    """The whole rotation of a shape that looks the same after `period`; None where its angle jumps about."""
    steps = torch.remainder(angle_T[1:] - angle_T[:-1] + period / 2, period) - period / 2
    calm_T = _calmed(steps.cumsum(0)).unfold(0, 3, 1).mean(1)
    total = float(steps.sum())
    onward = float(((calm_T[1:] - calm_T[:-1]) * total > 0).float().mean())
    steady = onward > MIN_ONWARD if abs(total) > TURN else _length(calm_T) < 2 * abs(total) + MAX_SHIVER
    return total if steady else None


def _calmed(track_T: Tensor) -> Tensor:
    """The track with single stray frames taken out (median of three)."""
    padded = torch.cat([track_T[:1], track_T, track_T[-1:]])
    return padded.unfold(0, 3, 1).median(1).values


def _gain(track_T: Tensor) -> float:
    """What a track gains from its beginning to its end."""
    num = max(2, len(track_T) // 10)
    return float(track_T[-num:].mean() - track_T[:num].mean())


def _length(track_T: Tensor) -> float:
    return float((track_T[1:] - track_T[:-1]).abs().sum())


def _range(track_T: Tensor) -> float:
    return float(track_T.quantile(0.95) - track_T.quantile(0.05))
