"""What the actions of a route read of a call."""

from penstock.simulators.host import Call, expect_object
from penstock.simulators.sevenbridges.state import RefusedError


async def json_of(call: Call) -> dict[str, object]:
    """Return the JSON object of a request, empty where it has none.

    Raises:
        RefusedError: it is not JSON (90009).
    """
    try:
        return expect_object(await call.body())
    except ValueError:
        raise RefusedError(400, 90009, "The request body could not be decoded.") from None
