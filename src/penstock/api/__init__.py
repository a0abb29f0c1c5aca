"""The library: `copy`, `plan`, `list_`, `check`, `quota`, a module each. Composes the engine.

Everything is a coroutine; there is no global state. Several runs may go on in one event loop, and
share a quota where endpoint and token are the same. Options are keyword-only and mean what the
command's options of the same names mean. What a call opens is opened in `opening`.
"""
