"""SURF Research Cloud's workspace API behind its gateway, simulated."""

from penstock.simulators.surf.settings import SurfSettings
from penstock.simulators.surf.simulator import Surf
from penstock.simulators.surf.state import Accepted, Workspace

__all__ = ["Accepted", "Surf", "SurfSettings", "Workspace"]
