"""A tally on a clock that stands still, and a few events to fill it."""

from __future__ import annotations

from dataclasses import replace

from penstock.cli.watching import Tally
from penstock.core.events import (
    BytesMoved,
    PlanComplete,
    Planned,
    RunStarted,
    TransferEnded,
    TransferStarted,
)
from penstock.core.report import Line


class Time:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


LINE = Line("run", "source", "destination", "id", 100, "verified")


def tally_of(files: int, size: int = 100) -> tuple[Tally, Time]:
    time = Time()
    tally = Tally(time)
    tally.take(RunStarted("run", ("data",), "cavatica:me/p/"))
    for number in range(files):
        tally.take(Planned(f"{number}", "there", size))
    tally.take(PlanComplete(files, files * size))
    return tally, time


def move(tally: Tally, name: str, size: int = 100) -> None:
    tally.take(TransferStarted(name, "there", size))
    tally.take(BytesMoved(name, size))
    tally.take(TransferEnded(replace(LINE, source=name, size=size)))
