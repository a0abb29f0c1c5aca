"""A pipeline's step on workspaces: they run for as long as the step lasts, and no minute more.

    python examples/running_workspaces.py                        # a local stand-in, no account
    python examples/running_workspaces.py WORKSPACE_ID…          # with the profile `surf`

Whatever becomes of the step, an error or Ctrl-C included, the workspaces are paused after it.
Exit code 0: the step is done; 1: it failed, or a workspace did not run or could not be paused.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

import penstock
from penstock.core.events import ActionEnded, Event
from penstock.simulators import Surf, SurfSettings


def tell(event: Event) -> None:
    """A line for each workspace that was resumed or paused. Called in the event loop: quick."""
    if isinstance(event, ActionEnded):
        line = event.line
        print(f"{line.action}: {line.name} {line.status} ({line.before} → {line.after})")


async def step(
    workspaces: Sequence[str], compute: Callable[[], None], environ: Mapping[str, str]
) -> int:
    """The step's exit code; the workspaces run while `compute` does its work."""
    try:
        async with penstock.running(workspaces, on_event=tell, environ=environ):
            await asyncio.to_thread(compute)
    except penstock.ActionsFailed as failed:
        print(failed)
        return 1
    except penstock.PenstockError as error:
        print(f"stopped: {error}")
        return 1
    except ArithmeticError as error:
        print(f"the step failed ({error}), and its workspaces are paused")
        return 1
    return 0


async def try_it() -> int:
    """A step that is done, and one that fails, on two workspaces of a simulated cloud."""
    settings = SurfSettings(workspaces=0, resume_s=0.5, pause_s=0.3)
    with tempfile.TemporaryDirectory() as home:
        async with Surf(settings) as cloud:
            ids = [cloud.add_workspace(f"node-{n}", "paused").id for n in (1, 2)]
            environ = {
                "HOME": home,
                "XDG_STATE_HOME": f"{home}/state",
                "PENSTOCK_SURF_ENDPOINT": cloud.endpoint,
                "PENSTOCK_SURF_TOKEN": cloud.token,
            }

            def states() -> str:
                return ", ".join(f"{w.name} {w.status}" for w in cloud.workspaces().values())

            codes = [
                await step(ids, lambda: print(f"computing: {states()}"), environ),
                await step(ids, lambda: print(1 / 0), environ),
            ]
            print(f"afterwards: {states()}")
    return 0 if codes == [0, 1] else 1


def compute() -> None:
    """What the step is for; put yours here."""
    print("computing")


def main() -> int:
    """Ids of workspaces: with the profile of your environment; none: a try."""
    if len(sys.argv) == 1:
        return asyncio.run(try_it())
    return asyncio.run(step(sys.argv[1:], compute, os.environ))


if __name__ == "__main__":
    sys.exit(main())
