"""Import a package of this distribution even where the user has a module of the same everyday name."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path


def claim_package(name: str) -> None:
    """Make a name stand for the package beside this one in this process.

    The package is a folder without ``__init__.py``, to which Python prefers any module of that name, wherever it lies
    on the search path: a ``cli.py`` in the working folder, for example. For the process of a command, not for an
    import into other programs.

    Args:
        name: name of the package, such as ``cli``.
    """
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(Path(__file__).parents[1] / name)]
    sys.modules[name] = module_from_spec(spec)
