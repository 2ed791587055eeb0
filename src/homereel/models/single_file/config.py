"""The configuration of a network, found by its shapes; what no shape tells comes from where it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from homereel.core.errors import InvalidRequest, WeightsError
from homereel.models.single_file.identify import Network

_WIDTHS = {
    "width": ("num_attention_heads", "attention_head_dim"),
    "audio_width": ("audio_num_attention_heads", "audio_attention_head_dim"),
}


@dataclass(frozen=True)
class Reference:
    """A config.json to look up what no shape tells, and what to call it."""

    name: str
    config: Mapping[str, Any]
    given: bool = False  # by --config: it goes before what is known


def settle_config(network: Network, reference: Reference | None) -> dict[str, Any]:
    """The network's config.json. Raises WeightsError if something in it could only be guessed."""
    figures = {key: value for key, value in network.figures.items() if key not in _WIDTHS}
    hidden = network.family.hidden(network.figures)
    if reference is not None and (reference.given or hidden is None):
        _check_reference(network, reference, figures)
        hidden = {key: value for key, value in reference.config.items() if not key.startswith("_")}
    if hidden is None:
        raise InvalidRequest(
            f"{network.file} is a {network.family.title} of sizes that are not known here ({_seen(figures)}); "
            "give its config.json with --config, or with --base a folder of a model with the same transformer",
            field="config",
        )
    config = {"_class_name": network.class_name, **hidden, **figures}
    for width, (heads, head) in _WIDTHS.items():
        wanted = network.figures.get(width)
        if wanted is not None and config.get(heads, 0) * config.get(head, 0) != wanted:
            raise WeightsError(
                f"{network.file} is {wanted} wide, which is not {heads} {config.get(heads)} times {head} "
                f"{config.get(head)}; give its config.json with --config"
            )
    _check_fit(network, config)
    return config


def network_class(name: str) -> Any:
    """diffusers' class of this name."""
    import diffusers

    return getattr(diffusers, name)


def _check_reference(network: Network, reference: Reference, figures: Mapping[str, Any]) -> None:
    """A reference of another network would be a guess."""
    kind = reference.config.get("_class_name", network.class_name)
    whole = network.family.strict or reference.given
    shared = ("ffn_dim", "num_layers", "text_dim", "freq_dim") if not whole else tuple(figures)
    for key in shared:
        known = reference.config.get(key, figures.get(key))
        if _plain(known) != _plain(figures.get(key)):
            raise WeightsError(
                f"{network.file} has the {key} {figures.get(key)} where {reference.name} has {known}; "
                "name with --base a model with the same network, or give its own config.json with --config"
            )
    if whole and kind != network.class_name:
        raise WeightsError(f"{network.file} holds a {network.class_name}, but {reference.name} is of a {kind}")


def _check_fit(network: Network, config: Mapping[str, Any]) -> None:
    """Every tensor must have its place, and every place its tensor."""
    import torch

    try:
        with torch.device("meta"):
            built = network_class(network.class_name).from_config(dict(config))
    except (TypeError, ValueError, KeyError, RuntimeError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{network.file}: its shapes make no {network.class_name}: {reason}") from None
    expected = {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    shapes = network.shapes()
    foreign, missing = sorted(shapes.keys() - expected.keys()), sorted(expected.keys() - shapes.keys())
    if foreign:
        shown = ", ".join(network.sources[name].name for name in foreign[:3])
        raise WeightsError(
            f"{network.file} holds {len(foreign)} tensors that a {network.class_name} has no place for: {shown}; "
            "it is a kind of model that is not supported"
        )
    if missing:
        raise WeightsError(
            f"{network.file} lacks {len(missing)} tensors of a {network.class_name}, such as {missing[0]}; "
            "fetch it again"
        )
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise WeightsError(
                f"{network.file}: {name} has the shape {shape}, where its other tensors ask for {expected[name]}"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _seen(figures: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in figures.items() if isinstance(value, int) and value > 1)
