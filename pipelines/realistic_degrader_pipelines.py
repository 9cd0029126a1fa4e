"""Find our modules of `pipelines` beside a package of the user's that has the same everyday name.

`pipelines` is a folder without ``__init__.py``, to which Python prefers any package of that name: one in the working
folder of a project, for example. Saved pipelines name their class as ``pipelines.pipeline_upsample``, so the modules
cannot move. This file is installed at the top level, beside a ``.pth`` file that imports it when Python starts. It only
answers for our own module names, and only when nothing else was found, so no other import changes.
"""

import importlib.util
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_OURS = ("pipelines.images", "pipelines.one_model", "pipelines.pipeline_degrade", "pipelines.pipeline_upsample")


class OurPipelines:
    """A finder of last resort for the modules in `_OURS`."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Find a module of ours; None for all others."""
        if name not in _OURS:
            return None
        degrade = importlib.util.find_spec("degrade")
        if degrade is None or degrade.origin is None:
            return None
        return PathFinder.find_spec(name, [str(Path(degrade.origin).parents[1] / "pipelines")])


sys.meta_path.append(OurPipelines)
