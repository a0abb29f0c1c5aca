"""The I/O: one module talks (transport), one remembers (ledger), one waits (limiter).

Everything concurrent runs in anyio task groups on asyncio. What to do is decided in `core` and
`platforms`; here it is done.
"""
