"""Which destinations a run has met: each is one transfer's, whatever the plan names twice."""

from __future__ import annotations

from penstock.core.errors import Conflict
from penstock.core.lifecycle import State
from penstock.core.seen import Seen
from penstock.core.transfers import Choices, DownTransfer, OnConflict, UpTransfer
from penstock.engine.planner import Planned, Unmoved


class Destinations:
    """The destinations of one run, and the source of each."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._met = Seen()

    def unless_met(self, planned: Planned) -> Planned | None:
        """The transfer, unless this run has one to the same destination already.

        The same file named twice is one transfer (None). Two sources for one destination are a
        conflict between them, met as the run meets conflicts, before anything is asked.
        """
        if isinstance(planned, Unmoved):
            return planned
        place = planned.identity
        key: tuple[object, ...] = (place.direction, place.container, place.remote_path)
        if isinstance(planned, UpTransfer) and planned.namesakes is not None:
            key = (place,)
        if isinstance(planned, DownTransfer):
            key = (place.direction, place.local_path)
        met = self._met.put(
            key, (planned.source, *sorted(planned.promised.items()), planned.promised_size)
        )
        if met is None:
            return planned
        if met:
            return None
        if self._choices.on_conflict is OnConflict.SKIP:
            return Unmoved(
                planned.source, planned.destination, State.SKIPPED, "conflict", size=planned.size
            )
        error = Conflict(
            f"two sources go to {planned.destination}; copy them to different folders, or give "
            "them destinations in a manifest"
        )
        return Unmoved(
            planned.source, planned.destination, State.FAILED, "conflict", error, planned.size
        )
