"""What other packages add: modules that they name in an entry-point group, imported once; their decorators register what is theirs."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil

from .errors import InvalidArgument


@functools.cache
def load_extensions(kind: str) -> None:
    """Import what installed packages name in the group `wordsight.<kind>`.

    Raises:
        InvalidArgument: one of them can't be imported; its package is named.
    """
    for entry in importlib.metadata.entry_points(group=f"wordsight.{kind}"):
        try:
            entry.load()
        except Exception as error:  # somebody else's code: whatever goes wrong in it is told with its name
            raise InvalidArgument(f"'{entry.value}', an extension of wordsight's {kind}, can't be loaded: {error}. Mend or uninstall its package.") from error


def import_all(package: str, paths: list[str]) -> None:
    """Import every module of a package, in order of name, so that adding a file is all it takes."""
    for module in sorted(module.name for module in pkgutil.iter_modules(paths)):
        importlib.import_module(f"{package}.{module}")
