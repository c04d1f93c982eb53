"""A policy decision service behind Envoy for the tool calls of AI agents.

This module decides nothing and imports nothing of the package, so that importing any room stays cheap. It trusts the
metadata of the installed distribution to name the version.
"""

from importlib.metadata import version

__version__ = version("authz")
