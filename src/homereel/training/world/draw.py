"""Draws a scene: a wall with soft panels, a plain floor, one shaded object with its shadow, and the light over all.

Shape letters: T frames, H height, W width, C colour channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from homereel.training.world.motion import GROUND, Path, path_of
from homereel.training.world.scene import FLOOR_COLORS, LIGHTS, OBJECT_COLORS, ROLLING_SHAPES, Scene

HORIZON = 0.30
EYE = 0.2
"""The camera zooms about the point (0, EYE)."""
FAR = 0.6
"""How much of a camera move the far wall shows, against 1 for the object (parallax)."""
SOFTNESS = 1.5
"""Width of an edge in pixels."""
WALL_TINT = (0.86, 0.93, 1.04)


@dataclass(frozen=True)
class Drawing:
    """A drawn clip: `frames_TCHW` uint8, and how much of each pixel the object covers, `mask_THW` float in 0..1."""

    frames_TCHW: Tensor
    mask_THW: Tensor


@dataclass(frozen=True)
class Window:
    """A part of the frame to draw, in pixels."""

    top: int
    left: int
    height: int
    width: int


def draw(
    scene: Scene,
    *,
    height: int = 96,
    width: int = 96,
    num_frames: int = 33,
    fps: float = 16.0,
    window: Window | None = None,
) -> Drawing:
    """Draw a scene at a size of height × width pixels; with `window`, only that part of it."""
    path = path_of(scene, num_frames=num_frames, fps=fps, aspect=width / height)
    view = window or Window(0, 0, height, width)
    v_H1 = ((torch.arange(view.top, view.top + view.height) + 0.5) / height * 2 - 1).view(-1, 1)
    u_1W = (((torch.arange(view.left, view.left + view.width) + 0.5) / width * 2 - 1) * width / height).view(1, -1)
    pixel = 2.0 / height
    pan, zoom = path.pan.view(-1, 1, 1), path.zoom.view(-1, 1, 1)
    floor_TH1 = _floor_share(v_H1, zoom, pixel)
    far = zoom**FAR
    wall = 0.60 - 0.10 * ((v_H1 - EYE) / far + EYE) + 0.05 * torch.tanh(3 * torch.sin(4.5 * (u_1W / far + FAR * pan)))
    ground = 0.88 + 0.30 * ((v_H1 - EYE) / far + EYE - HORIZON).clamp(min=0)
    x_T1W, y_TH1 = u_1W / zoom + pan, (v_H1 - EYE) / zoom + EYE
    shade = 1 - _shadow(path, x_T1W, y_TH1) * floor_TH1
    dx = (x_T1W - path.x.view(-1, 1, 1)) / path.radius.view(-1, 1, 1)
    dy = (y_TH1 - path.y.view(-1, 1, 1)) / path.radius.view(-1, 1, 1)
    mask, tone, gloss = _object(scene.shape, dx, dy, path, pixel)
    channels = []
    for k in range(3):
        light = LIGHTS[scene.light][k]
        back = torch.lerp(wall * WALL_TINT[k], ground * FLOOR_COLORS[scene.floor][k], floor_TH1) * shade
        body = tone * OBJECT_COLORS[scene.color][k] if gloss is None else tone * OBJECT_COLORS[scene.color][k] + gloss
        channels.append(torch.lerp(back, body, mask).mul_(255 * light).add_(0.5).clamp_(0, 255))
    return Drawing(torch.stack(channels, 1).to(torch.uint8), mask)


def _floor_share(v_H1: Tensor, zoom: Tensor, pixel: float) -> Tensor:
    """1 below the horizon, 0 above, with a soft edge."""
    depth = (v_H1 - EYE) + (EYE - HORIZON) * zoom**FAR
    return (depth / (pixel * SOFTNESS) + 0.5).clamp(0, 1)


def _shadow(path: Path, x: Tensor, y: Tensor) -> Tensor:
    """Darkening of the floor: a soft ellipse that shrinks and fades as the object leaves the ground."""
    radius = path.radius.view(-1, 1, 1)
    lift = (GROUND - radius - path.y.view(-1, 1, 1)).clamp(0, 1)
    reach = radius * (0.95 - 0.3 * lift)
    inside = ((x - path.x.view(-1, 1, 1)) / reach) ** 2 + ((y - GROUND - 0.04) / (reach * 0.22)) ** 2
    return (0.45 - 0.27 * lift) * torch.sigmoid((1 - inside) * 2.5)


def _object(shape: str, dx: Tensor, dy: Tensor, path: Path, pixel: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """Coverage, diffuse shade and highlight of the object; dx, dy are in radii from its centre."""
    cos, sin = torch.cos(path.angle).view(-1, 1, 1), torch.sin(path.angle).view(-1, 1, 1)
    local_x, local_y = cos * dx + sin * dy, cos * dy - sin * dx
    distance = signed_distance(shape, local_x, local_y)
    scale = (path.radius * path.zoom).view(-1, 1, 1) / (pixel * SOFTNESS)
    mask = (0.5 - distance * scale).clamp(0, 1)
    gloss: Tensor | None = None
    if shape == "ball":
        facing = (0.70 * (1 - dx * dx - dy * dy).clamp(min=0).sqrt() - 0.45 * dx - 0.55 * dy).clamp(min=0)
        tone, gloss = 0.50 + 0.55 * facing, 0.5 * facing**16
    else:
        tone = 0.94 - 0.13 * dy.clamp(-1, 1) - 0.05 * dx.clamp(-1, 1) - 0.16 * (1 + distance * 5).clamp(0, 1)
    if shape in ROLLING_SHAPES:
        tone = tone * (1 - 0.3 * torch.sigmoid(6 * local_x))
    return mask, tone, gloss


def signed_distance(shape: str, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance (negative inside) to a shape that fills the unit circle, y downwards."""
    match shape:
        case "ball":
            return (x * x + y * y).sqrt() - 0.98
        case "box":
            return torch.maximum(x.abs(), y.abs()) - 0.86
        case "triangle":
            return torch.maximum(x.abs() * 0.88 - (y - 0.28) * 0.475, y - 0.28) - 0.60
        case "ring":
            return ((x * x + y * y).sqrt() - 0.68).abs() - 0.30
        case "star":
            return _star_distance(x, y - 0.05)
    raise ValueError(f"no shape named {shape!r}")


def _star_distance(x: Tensor, y: Tensor, *, outer: float = 1.14, inner: float = 0.54) -> Tensor:
    """Five points: fold the plane into one tenth and measure to the edge from tip to notch."""
    sector = 2 * math.pi / 5
    radius = (x * x + y * y).sqrt()
    angle = (torch.remainder(torch.atan2(x, -y) + sector / 2, sector) - sector / 2).abs()
    notch_x, notch_y = inner * math.cos(sector / 2), inner * math.sin(sector / 2)
    edge_x, edge_y = notch_x - outer, notch_y
    length = math.hypot(edge_x, edge_y)
    return ((radius * torch.cos(angle) - outer) * edge_y - radius * torch.sin(angle) * edge_x) / length
