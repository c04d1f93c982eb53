"""A policy decision service behind Envoy for the tool calls of AI agents.

This module decides nothing and imports nothing of the package, so that importing any room stays cheap. It trusts the
metadata of the installed distribution to name the version.
"""

__version__: str


def __getattr__(name: str) -> str:
    """`__version__`, read when it is asked for: most commands never do, and metadata is slow to read."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import version  # noqa: PLC0415

    return version("authz")
