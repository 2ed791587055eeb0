"""The way of blocks to the device: two places there, in turn, and copies that run beside computation.

A Lane belongs to one use of the pass; a Route is one denoiser's, and two experts' routes may share a Deck, which is
all the room that they have on the device. While a block computes, the next one is copied to the other place on a
stream of its own, from page-locked memory. What is on disk is read into such memory first, while the device is busy.
Nothing is allocated once the deck stands.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from homereel.passes.residency_home import Home, host_stretch

NUM_TURNS = 2  # places for blocks that travel


class Place:
    """Room for one block on the device, and who is in it."""

    def __init__(self, buffer: Tensor) -> None:
        self.buffer = buffer
        self._holder: weakref.ref[Home] | None = None
        self.copied: torch.cuda.Event | None = None  # since when the weights are there
        self.used: torch.cuda.Event | None = None  # until when they are computed with

    def holds(self, home: Home) -> bool:
        return self._holder is not None and self._holder() is home

    def empty(self) -> None:
        """Who was here is at home again."""
        holder = None if self._holder is None else self._holder()
        if holder is not None:
            holder.bring_back()
        self._holder = None

    def admit(self, home: Home) -> None:
        self.empty()
        self._holder = weakref.ref(home)


class Carrier(Protocol):
    """How bytes get from a home to a place."""

    reads_first: bool  # whether the processor itself is busy while it carries

    def carry(self, home: Home, place: Place, views: Sequence[Tensor]) -> None:
        """Begin to copy, when the place is not computed with any more."""
        ...

    def wait(self, place: Place) -> None:
        """What computes from here on does so after the copy."""
        ...

    def done(self, place: Place) -> None:
        """All that computes with the place has been asked for."""
        ...

    def settle(self) -> None:
        """Come back when nothing is on its way."""
        ...


class HostCarrier:
    """Where the device is the processor itself: copies are done when they are asked for."""

    reads_first = False

    def carry(self, home: Home, place: Place, views: Sequence[Tensor]) -> None:
        if home.flat is None:
            home.gather(views)
        else:
            place.buffer[: home.num_bytes].copy_(home.flat)

    def wait(self, place: Place) -> None:
        """It is there."""

    def done(self, place: Place) -> None:
        """It is done."""

    def settle(self) -> None:
        """Nothing is on its way."""


class CudaCarrier:
    """Copies on a stream of its own; homes that are not page-locked are gathered in two stretches that are."""

    def __init__(self, device: torch.device, *, num_bytes: int, reads_first: bool) -> None:
        self.reads_first = reads_first
        self._device = device
        self._stream = torch.cuda.Stream(device)
        stages = range(NUM_TURNS if reads_first else 0)
        self._stages = [host_stretch(num_bytes, pin=True)[0] for _ in stages]
        self._sent = [torch.cuda.Event() for _ in stages]
        self._turn = 0

    def carry(self, home: Home, place: Place, views: Sequence[Tensor]) -> None:  # noqa: ARG002  # it copies all at once
        source, turn = home.flat, self._turn
        if source is None:
            self._turn = (turn + 1) % len(self._stages)
            self._sent[turn].synchronize()  # what was sent from here last has left; at first there is nothing
            source = self._stages[turn]
            home.gather(home.views(source))
        if place.used is not None:
            self._stream.wait_event(place.used)
        with torch.cuda.stream(self._stream):
            place.buffer[: home.num_bytes].copy_(source[: home.num_bytes], non_blocking=True)
        place.copied = place.copied or torch.cuda.Event()
        place.copied.record(self._stream)
        if home.flat is None:
            self._sent[turn].record(self._stream)

    def wait(self, place: Place) -> None:
        if place.copied is not None:
            torch.cuda.current_stream(self._device).wait_event(place.copied)

    def done(self, place: Place) -> None:
        place.used = place.used or torch.cuda.Event()
        place.used.record(torch.cuda.current_stream(self._device))

    def settle(self) -> None:
        torch.cuda.synchronize(self._device)

    def begin(self, place: Place) -> None:
        """The allocator must not give the place to others while a copy to it is on its way."""
        place.buffer.record_stream(self._stream)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))


class Deck:
    """Room on the device: two places in turn, and one for each block that experts keep there when they compute."""

    def __init__(self, device: torch.device, *, num_bytes: int, num_places: int, reads_first: bool) -> None:
        self.device, self.num_bytes, self.reads_first = device, num_bytes, reads_first
        self.carrier: Carrier = HostCarrier()
        with torch.inference_mode(False):
            rooms = [torch.empty(num_bytes, dtype=torch.uint8, device=device) for _ in range(NUM_TURNS + num_places)]
        places = [Place(room) for room in rooms]
        if device.type == "cuda":
            carrier = CudaCarrier(device, num_bytes=num_bytes, reads_first=reads_first)
            for place in places:
                carrier.begin(place)
            self.carrier = carrier
        self.turns, self.fixed = places[:NUM_TURNS], places[NUM_TURNS:]

    def serves(self, device: torch.device, *, num_bytes: int, num_places: int, reads_first: bool) -> bool:
        can_read = self.reads_first or not reads_first
        fits = num_bytes <= self.num_bytes and num_places == len(self.fixed)
        return device == self.device and fits and can_read


class Lane:
    """What the routes of one use of the pass share; it holds nothing itself, so a freed denoiser frees its room."""

    def __init__(self) -> None:
        self._deck: weakref.ref[Deck] | None = None

    def join(
        self, homes: Sequence[Home], *, places: Sequence[int | None], num_places: int, device: torch.device
    ) -> Route:
        """A route for these blocks in order; `places` has each one's own place on the deck, None to take turns."""
        num_bytes = max((home.num_bytes for home in homes), default=0)
        deck = None if self._deck is None else self._deck()
        gathered = any(home.flat is None for home in homes)
        if deck is None or not deck.serves(device, num_bytes=num_bytes, num_places=num_places, reads_first=gathered):
            deck = Deck(device, num_bytes=num_bytes, num_places=num_places, reads_first=gathered)
            self._deck = weakref.ref(deck)
        return Route(deck, homes, places=places)


class Route:
    """One denoiser's blocks on their way; a stop is a block's number among those that travel."""

    def __init__(self, deck: Deck, homes: Sequence[Home], *, places: Sequence[int | None]) -> None:
        self.deck, self._homes, self._places = deck, homes, places
        self._views: dict[tuple[int, int], tuple[Tensor, ...]] = {}
        # Which stop came after which the last time: blocks beside the main ones come first, and some are left out.
        self._after = [(stop + 1) % len(homes) for stop in range(len(homes))]
        self._last: int | None = None

    def arrive(self, stop: int) -> Callable[[], None]:
        """Called before a block computes; what comes back is to be called when all of that has been asked for."""
        if self._last is not None:
            self._after[self._last] = stop
        self._last = stop
        home, carrier = self._homes[stop], self.deck.carrier
        place = self._place_held(stop) or self._fetch(stop, beside=None)
        carrier.wait(place)
        home.lend(self._views_of(stop, place))
        if not carrier.reads_first:
            self._look_ahead(stop, at=place, most=len(self._homes))

        def depart() -> None:
            carrier.done(place)
            if carrier.reads_first:
                self._look_ahead(stop, at=place, most=1)

        return depart

    def leave(self) -> None:
        """All blocks are at home; nothing is on its way."""
        self.deck.carrier.settle()
        for place in (*self.deck.turns, *self.deck.fixed):
            if any(place.holds(home) for home in self._homes):
                place.empty()
        self._views.clear()

    def _look_ahead(self, stop: int, *, at: Place, most: int) -> None:
        """Fetch what comes next: the next block that takes turns, and those with places of their own before it."""
        following, fetched = self._after[stop], 0
        for _ in self._homes:
            if following == stop or fetched == most:
                return
            if self._place_held(following) is None:
                self._fetch(following, beside=at)
                fetched += 1
            if self._places[following] is None:
                return
            following = self._after[following]

    def _place_held(self, stop: int) -> Place | None:
        home, own = self._homes[stop], self._places[stop]
        candidates = self.deck.turns if own is None else [self.deck.fixed[own]]
        return next((place for place in candidates if place.holds(home)), None)

    def _fetch(self, stop: int, *, beside: Place | None) -> Place:
        """Begin to bring a block, to its own place or to that of the two which is not computed with."""
        home, own = self._homes[stop], self._places[stop]
        if own is not None:
            place = self.deck.fixed[own]
        else:
            place = next(turn for turn in self.deck.turns if turn is not beside)
        place.admit(home)
        self.deck.carrier.carry(home, place, self._views_of(stop, place))
        return place

    def _views_of(self, stop: int, place: Place) -> tuple[Tensor, ...]:
        key = (stop, id(place))
        if key not in self._views:
            self._views[key] = self._homes[stop].views(place.buffer)
        return self._views[key]
