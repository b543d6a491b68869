"""Load plug-ins from entry points; importing one registers it."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil

from ..errors import InvalidArgument

# sources are loaded one by one, when asked for
KINDS = ("backbones", "checks", "formats", "heatmaps")


@functools.cache
def load_extensions(kind: str) -> None:
    """Import the modules that installed packages name in the group `wordsight.<kind>`.

    Raises:
        InvalidArgument: if one can't be imported; the message names its package.
    """
    for entry in importlib.metadata.entry_points(group=f"wordsight.{kind}"):
        try:
            entry.load()
        except Exception as error:
            # other people's code may raise anything; the message names the package
            package = f"'{entry.dist.name}'" if entry.dist else "its package"
            raise InvalidArgument(
                f"'{entry.value}', which adds to wordsight's {kind}, can't be loaded: {error}. "
                f"Mend or uninstall {package}."
            ) from error


def import_all(package: str, paths: list[str], first: tuple[str, ...] = ()) -> None:
    """Import every module of a package: first those in `first`, then the others by name. A new
    file is thus found by itself.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(paths))
    for module in sorted(
        names, key=lambda name: first.index(name) if name in first else len(first)
    ):
        importlib.import_module(f"{package}.{module}")
