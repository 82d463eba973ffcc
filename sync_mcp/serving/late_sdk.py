"""The SDK without what a server of tools does not use: its clients, and its other kind of server.

Both are imported by two packages on the way to every module of the SDK; they are a tenth of a start, and
ten MiB.
"""

import sys
from functools import partial
from importlib.util import find_spec, module_from_spec
from types import ModuleType

# The outer first: an inner one is found by it.
_PACKAGES = ("mcp", "mcp.server")


def _run(package: ModuleType, name: str) -> object:
    """Run a package that was put off, and return what it has under a name."""
    # First: while it runs, its own modules ask it for names.
    del vars(package)["__getattr__"]
    assert package.__spec__
    assert package.__spec__.loader
    package.__spec__.loader.exec_module(package)
    return getattr(package, name)


def put_off_sdk_packages() -> None:
    """Let the SDK's packages run at the first use of a name of theirs, not on the way to their modules.

    It holds for the whole process, so only the command that serves does it. Packages that are loaded stay.
    """
    for name in _PACKAGES:
        spec = None if name in sys.modules else find_spec(name)
        if spec is None:
            continue
        package = module_from_spec(spec)
        # It is asked for each name that the package does not have.
        vars(package)["__getattr__"] = partial(_run, package)
        sys.modules[name] = package
        outer, _, inner = name.rpartition(".")
        if outer:
            setattr(sys.modules[outer], inner, package)
