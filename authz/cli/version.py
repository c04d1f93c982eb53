"""`authz version`: which authz, and which OPA, Go, Python and Envoy belong to it."""

from __future__ import annotations

import platform

from authz import __version__
from authz.cli.output import Output, OutputOption, document, pairs
from authz.native import Library
from authz.native.boundary import ABI_VERSION
from authz.proxy.programs import TESTED_ENVOY

EXAMPLES = """
Examples:

  authz version

  authz version --output json
"""


def version(output: OutputOption = Output.TABLE) -> None:
    """Print the versions of authz, of the native library inside it, and of the Envoy line it is tested with."""
    inside = Library.load().versions()
    versions = {
        "authz": __version__,
        "opa": inside["opa"],
        "abi": str(ABI_VERSION),
        "go": inside["go"],
        "python": platform.python_version(),
        "envoy": TESTED_ENVOY,
    }
    if output is Output.JSON:
        document(versions)
    else:
        pairs(versions)
