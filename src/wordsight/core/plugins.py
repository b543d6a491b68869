"""What other packages add: modules that they name in an entry-point group, imported once; their
decorators register what is theirs.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil

from ..errors import InvalidArgument

# sources are loaded one by one, when they are asked for
KINDS = ("backbones", "checks", "formats", "heatmaps")


@functools.cache
def load_extensions(kind: str) -> None:
    """Import what installed packages name in the group `wordsight.<kind>`.

    Raises:
        InvalidArgument: one of them can't be imported; its package is named.
    """
    for entry in importlib.metadata.entry_points(group=f"wordsight.{kind}"):
        try:
            entry.load()
        except Exception as error:
            # somebody else's code: whatever goes wrong in it is told with its name
            package = f"'{entry.dist.name}'" if entry.dist else "its package"
            raise InvalidArgument(
                f"'{entry.value}', which adds to wordsight's {kind}, can't be loaded: {error}. "
                f"Mend or uninstall {package}."
            ) from error


def import_all(package: str, paths: list[str], first: tuple[str, ...] = ()) -> None:
    """Import every module of a package, so that adding a file is all it takes: those named
    first, then the others in order of name.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(paths))
    for module in sorted(
        names, key=lambda name: first.index(name) if name in first else len(first)
    ):
        importlib.import_module(f"{package}.{module}")
