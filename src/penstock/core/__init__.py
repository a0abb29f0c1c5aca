"""Pure decisions: what to send, when it may go, what an answer proves.

Nothing here talks, remembers or waits: no sockets, no files, no clock, no chance. What time it
is, what came back and what lies on disk are arguments. That is why every rule of the engine can
be tested with values alone. Do not add I/O here, nor anything that reads a clock.
"""
