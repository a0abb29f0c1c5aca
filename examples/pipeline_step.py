"""A pipeline's step: fetch, tell how far it is, and let nothing follow what is not whole.

    python examples/pipeline_step.py                             # a local stand-in, no account
    python examples/pipeline_step.py cavatica:OWNER/PROJECT/FOLDER TARGET

Exit code 0: all is there and proved, the next step may run. Else the pipeline stops,
with penstock's exit codes, and the same command carries on later.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping

import penstock
from penstock.core.events import Event, PlanComplete, QuotaWait, TransferEnded
from penstock.simulators import Fault, SevenBridges

INTERRUPTED = 130
STOPPED = 3
BAD_ARGUMENTS = 2


class Progress:
    """Counts what ended, for a log that has no terminal."""

    def __init__(self) -> None:
        self.ended = 0
        self.files: int | None = None

    def __call__(self, event: Event) -> None:
        """One event of the run. Called in the event loop, so it has to be quick."""
        match event:
            case PlanComplete(files=files):
                self.files = files
            case TransferEnded(line=line):
                self.ended += 1
                print(f"[{self.ended}/{self.files or '?'}] {line.status} {line.source}")
            case QuotaWait(seconds=seconds) if seconds > 1:
                print(f"the quota is spent; going on in {seconds:.0f} s")


async def fetch(source: str, target: str, environ: Mapping[str, str]) -> int:
    """The step. Five files that fail end it; so do, at once, a refused token or a full disk."""
    try:
        report = await penstock.copy(
            source, target, strict=True, max_failures=5, on_event=Progress(), environ=environ
        )
    except penstock.Interrupted as stopped:
        print(stopped)
        return INTERRUPTED
    except penstock.RunStopped as stopped:
        print(f"stopped: {stopped}")
        return STOPPED
    except penstock.UsageError as error:
        print(error)
        return BAD_ARGUMENTS
    for line in report.lines():
        if line.error is not None:
            print(f"FAILED {line.source}: {line.error['message']}")
    return report.exit_code


async def try_it() -> int:
    """A first try at a storage that lost a file, then a second when it is there again."""
    with tempfile.TemporaryDirectory() as home:
        async with SevenBridges() as platform:
            environ = {
                "HOME": home,
                "XDG_STATE_HOME": f"{home}/state",
                "PENSTOCK_CAVATICA_ENDPOINT": platform.endpoint,
                "PENSTOCK_CAVATICA_TOKEN": platform.token,
            }
            for number in range(1, 8):
                platform.add_file(platform.project, f"run/reads-{number}.fastq", b"ACGT" * number)
            lost = platform.files()["run/reads-4.fastq"].id
            gone = Fault(kind="status", path=f"/files/{lost}/", status=404, code=5002, times=None)
            platform.faults.add(gone)
            step = (f"cavatica:{platform.project}/run", f"{home}/run", environ)
            first = await fetch(*step)
            print(f"exit code {first}: the pipeline stops here" if first else "go on")
            platform.faults.clear()
            second = await fetch(*step)
            print(f"exit code {second}: the pipeline stops here" if second else "go on")
            return 0 if (first, second) == (1, 0) else 1


def main() -> int:
    """Two arguments: a real copy, with the profile of your environment; none: a try."""
    if len(sys.argv) == 1:
        return asyncio.run(try_it())
    source, target = sys.argv[1:]
    return asyncio.run(fetch(source, target, os.environ))


if __name__ == "__main__":
    sys.exit(main())
