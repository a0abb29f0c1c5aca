"""Who lives: told by a lock that the system frees, in whatever way its holder ends."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

from penstock.engine.locks import Holder

_HOLD = """
import sys
from pathlib import Path
from penstock.engine.locks import Holder
with Holder(Path(sys.argv[1])) as holder:
    print(holder.id, flush=True)
    sys.stdin.read()
"""


def _start(folder: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def _end(process: subprocess.Popen[str]) -> None:
    process.communicate()


def test_a_holder_lives_while_its_process_does_and_dies_with_it(tmp_path: Path) -> None:
    process, other = _start(tmp_path)
    with Holder(tmp_path) as mine:
        assert mine.lives(other)
        assert mine.lives(other), "asking does not take the lock"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / f"{other}.lock").exists()
        assert not mine.lives(other)
        assert not (tmp_path / f"{other}.lock").exists(), "what a dead holder left is tidied away"
        assert not mine.lives(other)
    _end(process)


def test_a_holder_that_leaves_is_gone(tmp_path: Path) -> None:
    process, other = _start(tmp_path)
    _end(process)
    with Holder(tmp_path) as mine:
        assert not mine.lives(other)
    assert list(tmp_path.iterdir()) == []


def test_a_holder_lives_for_itself_and_for_others_of_its_process(tmp_path: Path) -> None:
    with Holder(tmp_path) as one, Holder(tmp_path) as two:
        assert one.id != two.id
        assert one.lives(one.id)
        assert one.lives(two.id)
        assert two.lives(one.id)


def test_a_stopped_holder_lives(tmp_path: Path) -> None:
    process, other = _start(tmp_path)
    process.send_signal(signal.SIGSTOP)
    with Holder(tmp_path) as mine:
        assert mine.lives(other)
    process.send_signal(signal.SIGCONT)
    _end(process)


def test_a_holder_s_name_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "x.lock").touch()
    with Holder(tmp_path / "holders") as mine:
        assert not mine.lives("../x")
    assert (tmp_path / "x.lock").exists()


def test_locks_are_their_owner_s_alone(tmp_path: Path) -> None:
    with Holder(tmp_path / "holders") as mine:
        path = tmp_path / "holders" / f"{mine.id}.lock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_child_of_the_process_does_not_keep_its_holder_alive(tmp_path: Path) -> None:
    """The key ring and editors are children: a descriptor they inherited would hold the lock."""
    with Holder(tmp_path) as gone:
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"],
            stdin=subprocess.PIPE,
            close_fds=False,
        )
    with Holder(tmp_path) as mine:
        (tmp_path / f"{gone.id}.lock").touch()
        assert not mine.lives(gone.id)
    child.communicate()
