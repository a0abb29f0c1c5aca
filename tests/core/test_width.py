"""The width of a run finds its level, on links that are made up, in time that is made up."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.model import KIB, MIB
from penstock.core.width import Width

STEP_S = 0.05


@dataclass
class Link:
    """Moves `rate(width)` bytes a second in bodies of `size`; some of them are lost."""

    rate: Callable[[int], float]
    size: int = 8 * MIB
    lost: Callable[[int], float] = lambda _: 0.0
    first_byte_s: Callable[[int], float] = lambda _: 0.08
    wanted: int = 10_000
    noise: float = 0.05


@dataclass
class Driven:
    """What came of it: widths and rates, second by second."""

    widths: list[int]
    rates: list[float]

    def settled(self) -> float:
        """The mean width of the last third."""
        late = self.widths[len(self.widths) * 2 // 3 :]
        return sum(late) / len(late)

    def rate(self, from_s: float) -> float:
        late = self.rates[int(from_s / STEP_S) :]
        return sum(late) / len(late)


def drive(
    link: Link, *, least: int = 2, most: int = 64, begin: int = 16, seconds: float = 120.0
) -> Driven:
    chance = random.Random(7)
    now_s, owed = 0.0, 0.0
    width = Width(least=least, most=most, begin=begin, now_s=now_s)
    driven = Driven([], [])
    while now_s < seconds:
        now_s += STEP_S
        busy = min(width.width, link.wanted)
        if link.wanted > width.width:
            width.filled()
        moved = link.rate(busy) * STEP_S * (1 + chance.uniform(-link.noise, link.noise))
        lost = link.lost(busy)
        owed += moved / link.size
        kept = 0.0
        while owed >= 1:
            owed -= 1
            width.waited(link.first_byte_s(busy) * chance.uniform(1, 1.3))
            is_lost = chance.random() < lost
            width.ended(lost=is_lost)
            kept += is_lost
        good = moved - kept * link.size / 2
        width.moved(int(good))
        width.look(now_s)
        driven.widths.append(width.width)
        driven.rates.append(good / STEP_S)
    return driven


def capped(each: float, whole: float) -> Callable[[int], float]:
    """So much a connection, so much over all."""
    return lambda width: min(width * each, whole)


def test_a_long_line_is_filled_whose_connections_are_capped() -> None:
    """80 ms of round trip, 20 MB/s a connection, 1 GB/s over all: 50 connections fill it."""
    driven = drive(Link(capped(20e6, 1e9)))
    assert driven.rate(from_s=20) >= 0.9 * 1e9
    assert 45 <= driven.settled() <= 64


def test_the_line_is_filled_from_two_as_from_sixteen() -> None:
    assert drive(Link(capped(20e6, 1e9)), begin=2).rate(from_s=40) >= 0.9 * 1e9


def test_small_files_fill_the_line_as_large_ones_do() -> None:
    """64 KiB a body, 80 ms each: what moves is what is asked for at once."""
    size = 64 * KIB
    driven = drive(Link(lambda width: min(width, 50) * size / 0.08, size=size))
    assert driven.settled() >= 40
    assert driven.rate(from_s=20) >= 0.9 * 50 * size / 0.08


def test_a_disk_that_four_bodies_saturate_is_not_given_sixty() -> None:
    """More only wait: first bytes come later, and nothing moves faster."""

    def first_byte_s(width: int) -> float:
        return 0.005 * max(1.0, width / 4)

    driven = drive(Link(capped(60e6, 240e6), first_byte_s=first_byte_s))
    assert driven.settled() <= 12
    assert driven.rate(from_s=20) >= 0.9 * 240e6


def test_a_disk_that_slows_down_under_many_is_given_few() -> None:
    def seeking(width: int) -> float:
        return min(width * 60e6, 240e6) / (1 + max(0, width - 4) / 40)

    driven = drive(Link(seeking))
    assert driven.settled() <= 10
    assert driven.rate(from_s=30) >= 0.85 * 240e6


def test_a_link_that_loses_bodies_beyond_a_width_is_kept_below_it() -> None:
    """More than twenty at once are refused or broken off, one in three."""
    driven = drive(
        Link(capped(20e6, 1e9), size=4 * MIB, lost=lambda width: 0.0 if width <= 20 else 0.33)
    )
    over = sum(width > 20 for width in driven.widths) / len(driven.widths)
    assert over < 0.1
    assert driven.rate(from_s=20) >= 0.6 * 20 * 20e6


def test_a_body_lost_now_and_then_narrows_nothing() -> None:
    driven = drive(Link(capped(20e6, 1e9), lost=lambda _: 0.01))
    assert driven.settled() >= 40


def test_nobody_is_given_more_than_asked_for() -> None:
    driven = drive(Link(capped(20e6, 1e9), wanted=5))
    assert max(driven.widths) <= 16


def test_memory_that_runs_short_halves_the_width_for_good() -> None:
    width = Width(least=2, most=64, begin=40, now_s=0.0)
    assert width.look(1.0, pressed=True) == 20
    for tenth in range(11, 600):
        width.filled()
        width.moved(width.width * 2 * MIB)
        width.ended(lost=False)
        assert width.look(tenth / 10) <= 20


def test_a_line_that_grows_is_found_again() -> None:
    now: list[float] = [0.0]

    def rate(width: int) -> float:
        now[0] += STEP_S
        return min(width * 20e6, 200e6 if now[0] < 60 else 1e9)

    driven = drive(Link(rate), seconds=240)
    assert driven.rate(from_s=180) >= 0.8 * 1e9


@given(
    st.lists(
        st.tuples(
            st.floats(0, 5),
            st.integers(-(1 << 30), 1 << 30),
            st.booleans(),
            st.booleans(),
            st.floats(0, 10),
        ),
        max_size=100,
    ),
    st.integers(1, 20),
    st.integers(1, 100),
    st.integers(1, 200),
)
def test_the_width_never_leaves_its_bounds(
    events: list[tuple[float, int, bool, bool, float]], least: int, most: int, begin: int
) -> None:
    width, now_s = Width(least=least, most=most, begin=begin, now_s=0.0), 0.0
    for passed_s, size, lost, pressed, wait_s in events:
        now_s += passed_s
        width.moved(size)
        width.waited(wait_s)
        width.ended(lost=lost)
        width.filled()
        assert min(least, most) <= width.look(now_s, pressed=pressed) <= most


@pytest.mark.parametrize("count", [1, 4])
def test_a_width_that_is_given_stays(count: int) -> None:
    driven = drive(Link(capped(20e6, 1e9)), least=count, most=count)
    assert set(driven.widths) == {count}
