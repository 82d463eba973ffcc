"""The SDK without what a server of tools does not use: its clients, and its other kind of server.

Both are imported by two packages on the way to every module of the SDK; they are a sixth of a start, and
ten MiB.
"""

import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType

# The outer first: an inner one is found by it.
_PACKAGES = ("mcp", "mcp.server")


class _LatePackage(ModuleType):
    """A package whose modules can be imported, and that runs itself when a name of its own is asked for."""

    def __getattr__(self, name: str) -> object:
        # First: while it runs, its own modules ask it for names.
        self.__class__ = ModuleType
        assert self.__spec__
        assert self.__spec__.loader
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def put_off_sdk_packages() -> None:
    """Let the SDK's packages run at the first use of a name of theirs, not on the way to their modules.

    It holds for the whole process, so only the command that serves does it. Packages that are loaded stay.
    """
    for name in _PACKAGES:
        spec = None if name in sys.modules else find_spec(name)
        if spec is None:
            continue
        package = module_from_spec(spec)
        package.__class__ = _LatePackage
        sys.modules[name] = package
        outer, _, inner = name.rpartition(".")
        if outer:
            setattr(sys.modules[outer], inner, package)
