"""The base classes of diffusers, imported without the optional packages that diffusers loads beside them.

Three imports inside diffusers cost seconds of every start, and print lines on stderr, for what no network here uses:

- ``diffusers.utils.torch_utils`` imports torch's compiler for the sake of one decorator;
- ``diffusers.models.modeling_utils`` imports all quantizers, and with them transformers, bitsandbytes, torchao and gguf
  wherever these are installed;
- ``ModelMixin.device`` and ``ModelMixin.to`` import all hooks, and with them peft.

They are put off until somebody uses what they define. Nothing is hidden, and no flag or environment variable is set:
code that loads a quantized model or a pipeline later in the same process gets everything then. What was imported before
stays as it is.

Import the names below from here: an import of diffusers that comes first loads the compiler.
"""

import importlib.util
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
_LATE = {  # modules to run when they are used, and the classes that modeling_utils takes from them but seldom uses
    "diffusers.hooks": (),
    "diffusers.quantizers": ("DiffusersAutoQuantizer", "DiffusersQuantizer"),
    "diffusers.quantizers.quantization_config": ("QuantizationMethod",),  # imports torchao, in diffusers up to 0.36
}

_loading = threading.RLock()
_stand_ins_given = False  # true while modeling_utils is imported


class _LateCompiler(ModuleType):
    """Stands in for ``torch._dynamo`` while diffusers' utilities are imported; to use it is to load the real one."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(_COMPILER) is self:
            del sys.modules[_COMPILER]
        return getattr(importlib.import_module(_COMPILER), name)

    def allow_in_graph(self, target: Any) -> Any:
        """Mark a function or class for the compiler, as the real decorator does."""
        return self.__getattr__("allow_in_graph")(target)


class _LateModule(ModuleType):
    """A module that runs when a name that it lacks is asked of it; submodules of a package import as usual.

    `importlib.util.LazyLoader` would run a package as soon as a submodule is imported.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":  # asked by code that looks through all modules
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if _stand_ins_given and name in _LATE[self.__name__]:
            return _LateClass(name, (), {"__module__": self.__name__})
        with _loading:  # the same thread may come back here: circular imports
            if type(self) is _LateModule and "_running" not in vars(self):
                assert self.__spec__ is not None and self.__spec__.loader is not None
                self._running = True
                try:
                    self.__spec__.loader.exec_module(self)
                    self.__class__ = ModuleType  # type: ignore[assignment]
                finally:
                    del self._running
        return ModuleType.__getattribute__(self, name)


class _LateClass(type):
    """A class that is looked up in its module when it is used."""

    def __getattr__(cls, name: str) -> Any:
        return getattr(_real(cls), name)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _real(cls))


def _real(stand_in: type) -> type:
    return getattr(sys.modules[stand_in.__module__], stand_in.__name__)


def _not_yet_run(name: str, kind: type[ModuleType]) -> ModuleType | None:
    """Put a module among the imported ones without running it; None when it is there already, or does not exist."""
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return None
    module = importlib.util.module_from_spec(spec)
    module.__class__ = kind
    sys.modules[name] = module
    return module


@contextmanager
def _compiler_put_off() -> Iterator[None]:
    stand_in = _not_yet_run(_COMPILER, _LateCompiler)
    try:
        yield
    finally:
        if stand_in is not None and sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]


@contextmanager
def _quantizers_and_hooks_put_off() -> Iterator[None]:
    global _stand_ins_given
    for name in _LATE:
        if (module := _not_yet_run(name, _LateModule)) is not None:
            parent, _, child = name.rpartition(".")
            setattr(sys.modules[parent], child, module)  # as every import of a submodule does
    _stand_ins_given = True
    try:
        yield
    finally:
        _stand_ins_given = False


with _compiler_put_off():
    from diffusers.configuration_utils import ConfigMixin, register_to_config
    from diffusers.schedulers.scheduling_utils import SchedulerMixin
    from diffusers.utils import BaseOutput
    from diffusers.utils.torch_utils import randn_tensor as _randn_tensor

with _quantizers_and_hooks_put_off():
    from diffusers.models.modeling_utils import ModelMixin, no_init_weights


def randn_tensor(shape: Sequence[int], *, generator: Any, **options: Any) -> Any:
    """Draw normal noise as diffusers does, which would take a list with too few or too many generators.

    Args:
        shape: size of the noise; the first is that of the batch.
        generator: a ``torch.Generator`` for the batch, or a list with one for each sample.
        **options: device and dtype.

    Raises:
        ValueError: the list has another length than the batch.
    """
    if isinstance(generator, list) and len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators for a batch of {shape[0]}; pass one, or a list of {shape[0]}")
    return _randn_tensor(tuple(shape), generator=generator, **options)


__all__ = [
    "BaseOutput",
    "ConfigMixin",
    "ModelMixin",
    "SchedulerMixin",
    "no_init_weights",
    "randn_tensor",
    "register_to_config",
]
