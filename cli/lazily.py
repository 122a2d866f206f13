"""Import a module only when something of it is used."""

from __future__ import annotations

import importlib
import sys
from functools import cache
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


def ask_versions_once() -> None:
    """Have `importlib.metadata` read the version of each package once, from when it loads.

    redis asks for its own version six times while it is imported, and each time reads all that is known of the package.
    """
    sys.modules.setdefault("importlib.metadata", _Metadata("importlib.metadata"))


class _Lazy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


class _Metadata(_Lazy):
    def __getattr__(self, name: str) -> Any:
        is_new = sys.modules.get(self.__name__) is self
        found = super().__getattr__(name)
        if is_new:
            loaded: Any = sys.modules[self.__name__]
            loaded.version = cache(loaded.version)
            return getattr(loaded, name)
        return found
