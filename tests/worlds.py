"""A world for tests of whole runs: a simulator, a home of its own, and `copy` between them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import penstock
from penstock.core.report import Line
from penstock.simulators import SevenBridges


@dataclass
class World:
    sim: SevenBridges
    home: Path

    @property
    def environ(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "PENSTOCK_CAVATICA_ENDPOINT": self.sim.endpoint,
            "PENSTOCK_CAVATICA_TOKEN": self.sim.token,
            "PENSTOCK_CAVATICA_QUOTA": self.quota,
        }

    @property
    def quota(self) -> str:
        return f"{self.sim.settings.quota}/{self.sim.settings.window_s}s"

    @property
    def remote(self) -> str:
        return f"cavatica:{self.sim.project}"

    async def copy(self, *locations: str | Path, **options: Any) -> penstock.Report:  # noqa: ANN401
        options.setdefault("environ", self.environ)
        return await penstock.copy(*map(str, locations), **options)

    def tree(self, files: dict[str, bytes], below: str = "src") -> Path:
        root = self.home / below
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return root

    def remote_md5s(self) -> dict[str, str]:
        return {path: file.md5 for path, file in self.sim.files().items()}

    def calls(self, method: str, part: str = "") -> int:
        return len(self.sim.calls(method, part))

    def asked(self) -> int:
        return sum(1 for exchange in self.sim.log if exchange.host == "api" and exchange.counted)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def md5s(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): md5(path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def by_name(report: penstock.Report) -> dict[str, Line]:
    return {os.path.basename(line.source): line for line in report.lines()}  # noqa: PTH119
