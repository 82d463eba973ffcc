"""The SDK without what a server of tools does not use: its clients, and its other kind of server.

Both are imported by two packages on the way to every module of the SDK; they are a tenth of a start, and
ten MiB.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType

# The outer first: an inner one is found by it.
_PACKAGES = ("mcp", "mcp.server")


class _Run(MetaPathFinder, Loader):
    """Runs a package as the import of a module of its own.

    So Python's locks of imports hold for it: it runs once, other threads wait for its end, and two threads
    that would wait for each other get an error in place of that.
    """

    def __init__(self, package: ModuleType) -> None:
        self._package = package
        # No other module has a space in its name.
        self._name = f"run {package.__name__.replace('.', ' ')}"

    def get(self, name: str) -> object:
        """Return what the package has under a name once it has run; while it runs, what it has by then."""
        import_module(self._name)
        if name not in vars(self._package):
            raise AttributeError(f"module {self._package.__name__!r} has no attribute {name!r}")
        return vars(self._package)[name]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module whose import it is."""
        del path, target
        return ModuleSpec(fullname, self) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        """Run the package."""
        del module
        assert self._package.__spec__
        assert self._package.__spec__.loader
        self._package.__spec__.loader.exec_module(self._package)


def put_off_sdk_packages() -> None:
    """Let the SDK's packages run at the first use of a name of theirs, not on the way to their modules.

    It holds for the whole process, so only the command that serves does it. Packages that are loaded stay.
    """
    for name in _PACKAGES:
        put_off(name)


def put_off(name: str) -> None:
    """Let a package run at the first use of a name that it does not have before; one that is loaded stays."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is None:
        return
    package = module_from_spec(spec)
    run = _Run(package)
    sys.meta_path.append(run)
    vars(package)["__getattr__"] = run.get
    sys.modules[name] = package
    outer, _, inner = name.rpartition(".")
    if outer:
        setattr(sys.modules[outer], inner, package)
