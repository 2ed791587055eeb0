"""Blocks that are not kept where they compute: the same bits on every layout, few copies, room for two blocks only."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel

from homereel.core.errors import UnsupportedPass
from homereel.passes import apply_passes, parse_passes, residency_lane
from homereel.passes.residency import Source, StreamBlocks, resident_blocks, with_residency
from homereel.passes.residency_home import Home
from homereel.passes.residency_lane import CudaCarrier, Deck, HostCarrier, Lane, Place
from tests.passes.conftest import MACHINE, MODELS, FirstCall
from tests.passes.conftest import _catch as catch
from tests.passes.test_contract import flows, same
from tests.tiny_models import TRANSFORMER, save_tiny_model

SOURCES: tuple[Source, ...] = ("memory", "disk")


class Counted(HostCarrier):
    """Notes every copy; as if of a device, whose places are empty before."""

    def __init__(self) -> None:
        self.homes: list[Home] = []

    def carry(self, home: Home, place: Place, views: Any) -> None:
        self.homes.append(home)
        place.buffer.fill_(0xFF)  # what was there is gone: floats of these bytes are no numbers
        super().carry(home, place, views)


@pytest.fixture
def decks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Deck]]:
    """Every deck that is made, with a carrier that counts."""
    made: list[Deck] = []
    plain = Deck.__init__

    def noted(self: Deck, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        self.carrier = Counted()
        made.append(self)

    monkeypatch.setattr(Deck, "__init__", noted)
    yield made
    made.clear()


def copies(deck: Deck) -> int:
    assert isinstance(deck.carrier, Counted)
    return len(deck.carrier.homes)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("model", MODELS)
def test_the_same_bits_and_undo_restores_all(
    model: str, source: Source, first_call: FirstCall, decks: list[Deck]
) -> None:
    call = first_call(model)
    network, settled = call.load(), call.load()
    _settle(settled, call.family)
    resident = flows(call, settled)
    # Weights on disk are where they were when all is over, those in memory lie as they would in a network of its own.
    first, keys = flows(call, network), list(network.state_dict())
    after = first if source == "disk" else resident
    attributes = [set(vars(module)) for module in network.modules()]
    streaming = StreamBlocks(resident=0, device="cpu", source=source)
    streaming.check(call.family, MACHINE)
    undo = streaming.apply(network, call.family)
    streaming.start(network)
    assert same(flows(call, network), resident)
    assert copies(decks[0]) > 0
    undo()
    assert same(flows(call, network), after)
    assert list(network.state_dict()) == keys
    assert [set(vars(module)) for module in network.modules()] == attributes
    undo()  # a second time does nothing
    assert torch.equal(call.flow(network), after[0])


def _settle(network: Any, family: Any) -> None:
    """Weights where an allocator would put them: a file's begin anywhere, and a processor's sums of a few numbers
    differ in the last bit by where these lie."""
    for block in (*family.blocks(network), *family.side_blocks(network)):
        for tensor in (*block.parameters(), *block.buffers()):
            tensor.data = tensor.data.clone()


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A call of a Wan of five blocks, which can be loaded anew."""
    folder = save_tiny_model(tmp_path_factory.mktemp("deep"), first_frame=False)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        WanTransformer3DModel(**{**TRANSFORMER, "num_layers": 5}).save_pretrained(folder / "transformer")
    return catch(folder, long=False)


@pytest.mark.parametrize("source", SOURCES)
def test_there_is_room_for_two_blocks_beside_those_that_stay(deep: Any, decks: list[Deck], source: Source) -> None:
    expected = deep.flow(deep.load())
    network = deep.load()
    StreamBlocks(resident=2, device="cpu", source=source).apply(network, deep.family)
    (deck,) = decks
    assert len(deck.turns) == 2
    assert not deck.fixed
    seen: list[list[bool]] = []

    def look(block: Any, *_: Any) -> None:
        seen.append([any(_lies_in(each, place) for place in deck.turns) for each in network.blocks])
        assert all(parameter.device.type == "cpu" for parameter in block.parameters())

    for block in network.blocks:
        block.norm1.register_forward_hook(look)  # called while the block computes
    first = copies(deck)
    assert torch.equal(deep.flow(network), expected)
    travelling = [index for index in range(5) if index not in resident_blocks(5, 2)]
    assert travelling == [0, 2, 4]
    for index, on_device in zip([0, 1, 2, 3, 4] * 2, seen, strict=True):  # guidance computes twice
        assert sum(on_device) <= 2
        assert on_device[index] == (index in travelling)
        assert not on_device[1]
        assert not on_device[3]
    # Three blocks take turns on two places: each is copied once a pass, and one is fetched ahead at the end.
    assert copies(deck) - first == 2 * 3 + 1
    assert torch.equal(deep.flow(network), expected)


def _lies_in(block: Any, place: Place) -> bool:
    start = place.buffer.data_ptr()
    return all(start <= each.data_ptr() < start + place.buffer.nbytes for each in block.parameters())


def test_the_next_block_is_under_way_while_one_computes(deep: Any, decks: list[Deck]) -> None:
    network = deep.load()
    StreamBlocks(resident=0, device="cpu").apply(network, deep.family)
    carrier: Any = decks[0].carrier
    order = {id(parameter): index for index, block in enumerate(network.blocks) for parameter in block.parameters()}
    told: list[tuple[int, int]] = []
    for index, block in enumerate(network.blocks):
        block.norm1.register_forward_hook(
            lambda *_, index=index: told.append((index, order[id(carrier.homes[-1].kept[0].tensor)]))
        )
    deep.flow(network)
    assert told == [(index, (index + 1) % 5) for index in range(5)] * 2


def test_two_experts_share_their_room_and_bring_a_block_once(deep: Any, decks: list[Deck]) -> None:
    first, second = deep.load(), deep.load()
    for parameter in second.parameters():
        parameter.mul_(1.01)
    expected = [deep.flow(first), deep.flow(second)]
    assert not torch.equal(*expected)
    streaming = StreamBlocks(resident=3, device="cpu", shared=True)
    undos = [streaming.apply(expert, deep.family) for expert in (first, second)]
    (deck,) = decks
    assert (len(deck.turns), len(deck.fixed)) == (2, 3)
    assert torch.equal(deep.flow(first), expected[0])
    once = copies(deck)
    assert once == 5  # three that stay and two with a place of their own each: a second pass copies nothing
    assert torch.equal(deep.flow(second), expected[1])
    assert copies(deck) == 2 * once
    assert torch.equal(deep.flow(second), expected[1])
    assert copies(deck) == 2 * once
    assert torch.equal(deep.flow(first), expected[0])
    for undo in undos:
        undo()
    assert torch.equal(deep.flow(first), expected[0])
    assert torch.equal(deep.flow(second), expected[1])


def test_an_expert_begins_with_all_that_it_needs_under_way(deep: Any, decks: list[Deck]) -> None:
    network = deep.load()
    StreamBlocks(resident=4, device="cpu", shared=True).apply(network, deep.family)
    carrier: Any = decks[0].carrier
    under_way: list[int] = []
    network.blocks[0].norm1.register_forward_hook(lambda *_: under_way.append(len(carrier.homes)))
    deep.flow(network)
    # The first one, those that stay before the one that travels, and that one.
    assert under_way[0] == 1 + sum(index not in resident_blocks(5, 4) for index in range(5)) + 1
    assert under_way[1] == 5


@pytest.mark.parametrize("spec", ["int8", "fused_norms", "sparse_attention:0.3:first_layers=0:first_steps=0"])
def test_what_other_passes_made_travels_as_well(spec: str, deep: Any, decks: list[Deck]) -> None:
    for source in SOURCES:
        plain, network = deep.load(), deep.load()
        passes = parse_passes(spec)
        apply_passes(plain, deep.family, passes)
        apply_passes(network, deep.family, with_residency(passes, StreamBlocks(1, "cpu", source)))
        assert same(flows(deep, network), flows(deep, plain))
    assert all(copies(deck) for deck in decks)


def test_a_block_that_a_cache_leaves_out_is_not_fetched(deep: Any, decks: list[Deck]) -> None:
    passes = parse_passes("fused_norms,step_cache:first_block:threshold=9:warm_up=0:max_skips=9")
    streamed = with_residency(passes, StreamBlocks(0, "cpu"))
    assert [each.name for each in streamed] == ["fused_norms", "residency", "step_cache"]
    plain, network = deep.load(), deep.load()
    apply_passes(plain, deep.family, passes)
    apply_passes(network, deep.family, streamed)
    expected = flows(deep, plain, steps=6)
    assert same(flows(deep, network, steps=1), expected[:1])
    whole = copies(decks[0])
    network = deep.load()
    apply_passes(network, deep.family, with_residency(passes, StreamBlocks(0, "cpu")))
    assert same(flows(deep, network, steps=6), expected)
    assert copies(decks[1]) < 2 * whole
    assert with_residency(passes, None) == passes


def test_weights_that_no_file_has_are_written_and_nothing_is_left(
    deep: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path / "home"))
    network = deep.load()
    for parameter in network.parameters():
        parameter.data = parameter.data * 1.01  # as a LoRA's merge would
    expected = deep.flow(network)
    StreamBlocks(1, "cpu", "disk").apply(network, deep.family)
    assert torch.equal(deep.flow(network), expected)
    assert (tmp_path / "home" / "streamed").is_dir()
    assert not list((tmp_path / "home" / "streamed").iterdir())
    if Path("/proc/self/maps").exists():
        assert "block.safetensors (deleted)" in Path("/proc/self/maps").read_text()


def test_mapped_files_are_not_copied(deep: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("only Linux tells what is mapped")
    monkeypatch.setenv("HOMEREEL_HOME", str(tmp_path / "home"))
    network = deep.load()
    before = [parameter.data_ptr() for parameter in network.blocks[0].parameters()]
    StreamBlocks(0, "cpu", "disk").apply(network, deep.family)
    assert [parameter.data_ptr() for parameter in network.blocks[0].parameters()] == before
    assert not (tmp_path / "home" / "streamed").exists()


def test_a_freed_denoiser_frees_its_room(deep: Any) -> None:
    streaming = StreamBlocks(1, "cpu")
    network = deep.load()
    streaming.apply(network, deep.family)
    deep.flow(network)
    kept = weakref.ref(network.blocks[0])
    assert streaming.lane._deck is not None
    assert streaming.lane._deck() is not None
    del network
    gc.collect()
    assert kept() is None
    assert streaming.lane._deck() is None


def test_a_failure_midway_leaves_it_as_it_was(deep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = deep.load()
    expected, attributes = deep.flow(network), [set(vars(module)) for module in network.modules()]

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("no room for two blocks")

    with monkeypatch.context() as patch:
        patch.setattr(Lane, "join", fail)
        with pytest.raises(torch.OutOfMemoryError):
            StreamBlocks(1, "cpu").apply(network, deep.family)
    assert [set(vars(module)) for module in network.modules()] == attributes
    assert torch.equal(deep.flow(network), expected)


def test_blocks_that_are_not_as_told_are_refused(deep: Any) -> None:
    network = deep.load()
    del network.blocks[-1]
    with pytest.raises(UnsupportedPass, match=r"residency: .* has 4 blocks where its configuration says 5"):
        StreamBlocks(1, "cpu").apply(network, deep.family)
    with pytest.raises(UnsupportedPass, match="residency: -1 blocks"):
        StreamBlocks(-1, "cpu").check(deep.family, MACHINE)


class Orders:
    """What a GPU would be told, in order; streams are "copies" and "computes"."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, Any]] = []
        self.stream = "computes"

    def install(self, patch: pytest.MonkeyPatch) -> None:
        orders = self

        class Event:
            def record(self, stream: Stream) -> None:
                orders.told.append(("record", stream.name, self))

            def synchronize(self) -> None:
                orders.told.append(("host waits", "", self))

        class Stream:
            def __init__(self, _: Any = None, *, name: str = "copies") -> None:
                self.name = name

            def wait_event(self, event: Event) -> None:
                orders.told.append(("wait", self.name, event))

        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "Event", Event)
        patch.setattr(torch.cuda, "stream", lambda _: nullcontext())
        patch.setattr(torch.cuda, "current_stream", lambda _: Stream(name="computes"))
        patch.setattr(torch.cuda, "synchronize", lambda _: None)
        patch.setattr(residency_lane, "host_stretch", lambda size, pin: (torch.empty(size, dtype=torch.uint8), pin))


@pytest.mark.parametrize("reads_first", [False, True])
def test_copies_and_computation_wait_for_one_another(
    deep: Any, monkeypatch: pytest.MonkeyPatch, reads_first: bool
) -> None:
    """No GPU is needed to see what one would be told: a place is filled when it is free, and used when it is full."""
    expected, network, orders = deep.flow(deep.load()), deep.load(), Orders()
    streaming = StreamBlocks(0, "cpu", "disk" if reads_first else "memory")
    streaming.apply(network, deep.family)
    assert streaming.lane._deck is not None
    deck: Any = streaming.lane._deck()
    orders.install(monkeypatch)
    deck.carrier = CudaCarrier(torch.device("cpu"), num_bytes=deck.num_bytes, reads_first=reads_first)
    carry, computed = deck.carrier.carry, []

    def noted(home: Home, place: Place, views: Any) -> None:
        orders.told.append(("carry", "copies", place))
        carry(home, place, views)

    deck.carrier.carry = noted

    def look(block: Any) -> None:
        computed.append(_place_of(block, deck))
        orders.told.append(("compute", "computes", computed[-1]))

    for block in network.blocks:
        block.norm1.register_forward_hook(lambda *_, block=block: look(block))
    assert torch.equal(deep.flow(network), expected)
    assert torch.equal(deep.flow(network), expected)
    assert len(computed) == 4 * 5
    for place in deck.turns:
        mine = [(what, event) for what, _, event in orders.told if event in (place, place.copied, place.used)]
        kinds = ["used" if event is place.used else "copied" if event is place.copied else "" for _, event in mine]
        steps = [f"{told[0]} {kind}".strip() for told, kind in zip(mine, kinds, strict=True)]
        again = ["wait copied", "compute", "record used", "carry", "wait used", "record copied"]
        assert steps[:2] == ["carry", "record copied"]
        assert steps[2:] == (again * 20)[: len(steps) - 2]
    if reads_first:
        for sent in deck.carrier._sent:
            waited = [what for what, _, event in orders.told if event is sent]
            assert waited == ["host waits", "record"] * (len(waited) // 2)
            assert len(waited) >= 20
    deck.carrier = HostCarrier()


def _place_of(block: Any, deck: Deck) -> Place:
    (place,) = (place for place in deck.turns if _lies_in(block, place))
    return place


@pytest.mark.parametrize("num_blocks", [1, 2, 5, 30, 40, 54])
def test_those_that_travel_are_spread_evenly(num_blocks: int) -> None:
    for resident in range(num_blocks + 2):
        staying = resident_blocks(num_blocks, resident)
        assert len(staying) == min(resident, num_blocks)
        travelling = sorted(set(range(num_blocks)) - staying)
        around = [*travelling, *(each + num_blocks for each in travelling[:1])]
        gaps = [later - earlier for earlier, later in pairwise(around)]
        assert not gaps or max(gaps) - min(gaps) <= 1
