"""Many files through a storm: all proved, or failed in a sentence; never a wrong byte on the way.

`PENSTOCK_STORM=2000` is the whole storm.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storm import KINDS, Weather, passage

NUMBER = int(os.environ.get("PENSTOCK_STORM", "90"))
SHARE = 0.1


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("platform", KINDS)
def test_a_storm_loses_nothing_and_costs_little(tmp_path: Path, platform: str, way: str) -> None:
    number = NUMBER if platform == "sevenbridges" else NUMBER // 3
    calm = passage(tmp_path / "calm", platform, way, number, None)
    assert calm.error is None
    assert calm.right == number
    storm = passage(tmp_path / "storm", platform, way, number, Weather(SHARE, seed=3))
    told = (
        f"{platform} {way}: {number} files, {calm.requests} requests, {storm.requests} in the "
        f"storm ({storm.requests / calm.requests:.3f}), {sum(storm.hits.values())} faults, "
        f"{storm.right} right, {storm.took_s:.0f} s: {dict(sorted(storm.hits.items()))}"
    )
    assert storm.error is None, storm.error
    assert storm.report is not None
    assert storm.wrong == [], told
    assert storm.unclear == []
    assert storm.right >= storm.report.summary.verified >= number * 0.95
    assert sum(storm.hits.values()) > calm.requests * SHARE * 0.7
    # Some faults come twice to what is few: pages. Over many requests that is nothing.
    assert storm.requests <= 1.3 * calm.requests + 5, told
