"""Where the folders lie that ship with the package: the Rego library, bundles, Envoy's configurations.

It decides between a checkout, where they stand beside the package, and an installed wheel, where the build hook has put
them under `_share`. It never looks anywhere else. It trusts the installation to be whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, TypeAlias

Folder: TypeAlias = Literal["bundles/starter", "bundles/template", "envoy", "pipelines", "playbooks", "rego", "schema"]

_PACKAGE: Final = Path(__file__).resolve().parent


def shared(folder: Folder, *, package: Path = _PACKAGE) -> Path:
    """The path of `folder` for reading. An installed copy comes first.

    Raises:
        FileNotFoundError: the installation is not whole.
    """
    places = (package / "_share" / folder, package.parent / folder)
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise FileNotFoundError(f"`{folder}` is missing from this installation of authz: install it again")
    return found
