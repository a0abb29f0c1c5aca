"""How a call is refused."""


class RefusedError(Exception):
    """A call is refused with an HTTP status and a sentence."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
