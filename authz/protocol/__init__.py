"""What the agent said: bytes in, values out.

Decides whether a request is well formed and what exactly it asks for. Every module here is pure: no I/O, no
clock, no other room. Must never guess, repair or normalise what a caller sent: whatever two readers could
understand in two ways is refused, with a reason of its own.

Trusts: nothing in the request. Trusts `Route` and `Limits`, which are the operator's.
"""
