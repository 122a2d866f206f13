"""Import a module only when something of it is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any


def import_lazily(name: str) -> None:
    """Make every later `import NAME` return a module that loads at its first use.

    Use it for modules that a library imports and we never need. `from NAME import ...` still loads the module at once.
    (`importlib.util.LazyLoader` is not enough: in Python 3.11 the second `import NAME` loads the module.)

    Args:
        name: of a top-level module; a loaded one stays as it is.
    """
    sys.modules.setdefault(name, _Lazy(name))


def read_versions_fast() -> None:
    """Have `importlib.metadata.version` read the name of a folder.

    redis asks for its own version six times while it is imported. `importlib.metadata` imports the parsers of e-mails and of
    archives, and then reads all that is known of the package.
    """
    sys.modules.setdefault("importlib.metadata", _Metadata("importlib.metadata"))


class _Lazy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


class _Metadata(_Lazy):
    def __getattr__(self, name: str) -> Any:
        return self._version if name == "version" else super().__getattr__(name)

    @cache  # noqa: B019, one for the process
    def _version(self, package: str) -> str:
        """The version in the name of the only folder `package-version.dist-info`; else what `importlib.metadata` finds."""
        named = ([*Path(folder).glob(f"{package}-*.dist-info")] for folder in sys.path)
        match next(filter(None, named), []):
            case [only]:
                return only.name.removesuffix(".dist-info").partition("-")[2]
        read: Callable[[str], str] = super().__getattr__("version")
        return read(package)
