"""Turn ``package.module:name`` or ``path/file.py:name`` into the object, and call it with a stored config.

Naming code means importing it: this is the caller's own code and it runs with the caller's rights.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from trainlab.errors import SubjectError, TrainlabError, did_you_mean

__all__ = ["Config", "call_with_config", "imported", "is_spec", "seeded"]

WHOLE = ("config", "cfg", "args", "hparams", "params")
PLAIN = (int, float, str, bool, "int", "float", "str", "bool")


class Config(dict[str, Any]):
    """A stored config: a dict whose keys, nested ones too, read as attributes as well.

    ``config["hidden"]`` and ``config.hidden`` are the same; a key named like a method of dict (``items``)
    is reached by brackets only.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__({k: Config(v) if isinstance(v, Mapping) else v for k, v in config.items()})

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"the config has no {name!r}: {did_you_mean(name, map(str, self))}")


def is_spec(text: str) -> bool:
    """Does the text name code: ``package.module:name`` or ``file.py:name``?"""
    place, colon, name = text.rpartition(":")
    dotted = all(part.isidentifier() for part in place.split("."))
    return (
        bool(colon) and all(part.isidentifier() for part in name.split(".")) and (dotted or _is_file(place))
    )


@contextmanager
def imported(spec: str, *, base: Path | None = None, paths: Iterable[Path] = ()) -> Iterator[Any]:
    """Imports the named object and keeps its folders importable inside the block, and no longer.

    The module search path is extended inside the block by, in this order, the file's own folder, ``paths`` and the
    working folder, so that sibling imports work, also those that a builder makes when it is called. An import made
    later, inside ``forward``, finds modules that were imported before and those of its own package.

    A file is imported once: naming it again gives the same module. It goes by its own name (``models``, or
    ``shop.models`` inside a package, so that relative imports work) where nothing else has that name, and by a name
    made from its path otherwise.

    Args:
        spec: ``package.module:name`` or ``path/file.py:name``; the name may be dotted.
        base: The folder that a relative file path starts from; the working folder by default.
        paths: Folders to search first.

    Yields:
        The object.

    Raises:
        SubjectError: There is no such file, module or name, or importing it failed.
    """
    place, _, name = spec.rpartition(":")
    if not is_spec(spec):
        raise SubjectError(
            "code is named as 'package.module:name' or 'path/file.py:name'",
            seen=repr(spec),
            fix="e.g. 'shop.models:build'",
        )
    folders = [*paths, Path.cwd()]
    file = None
    if _is_file(place):
        file = (base or Path.cwd()).joinpath(Path(place).expanduser()).resolve()
        if not file.is_file():
            others = [f"{each.name}:{name}" for each in file.parent.glob("*.py")]
            raise SubjectError(f"there is no file {file}", fix=did_you_mean(f"{file.name}:{name}", others))
        folders.insert(0, file.parent)
    added = [str(folder) for folder in folders if str(folder) not in sys.path]
    sys.path[:0] = added
    importlib.invalidate_caches()  # a file written a moment ago is not in the finder's list of its folder
    try:
        found: Any = _import_file(file) if file else _import_module(place)
        for part in name.split("."):
            if not hasattr(found, part):
                known = [each for each in dir(found) if not each.startswith("_")]
                raise SubjectError(f"{place} has no {name!r}", fix=did_you_mean(part, known))
            found = getattr(found, part)
        yield found
    finally:
        for folder in added:
            if folder in sys.path:
                sys.path.remove(folder)


def call_with_config(
    function: Callable[..., Any], config: Mapping[str, Any] | None, *, name: str, device: object = None
) -> tuple[Any, str]:
    """Calls a builder, function or class, with the stored config where its signature takes it.

    First that applies:

    1. a parameter named config, cfg, args, hparams or params gets the whole config; other parameters that are
       required are taken from the config by name;
    2. parameters named like keys of the config get those; ``**kwargs`` gets every key;
    3. a single required parameter, if it is not annotated as a number or string, gets the whole config.

    A parameter named ``device`` gets the device. Without a stored config, only what has defaults can be called.
    The config is a fresh `Config` each time, so a builder may change it.

    Args:
        function: What to call.
        config: The stored config, or None.
        name: How the caller named the function.
        device: Where the subjects go.

    Returns:
        What the function returned, and the call in words: ``shop.models:build(config)``.

    Raises:
        SubjectError: A required parameter cannot be filled, or the function failed.
    """
    stored = Config(copy.deepcopy(dict(config))) if config is not None else None
    try:
        parameters = dict(inspect.signature(function).parameters)
    except ValueError:  # some builtins have none
        parameters = {}
    handed = _arguments(parameters, stored)
    if device is not None and "device" in parameters:
        handed["device"] = device
    missing = [p.name for p in parameters.values() if _is_required(p) and p.name not in handed]
    if missing:
        raise SubjectError(
            f"{name} needs {', '.join(map(repr, missing))}",
            seen="no stored config to take them from"
            if stored is None
            else f"config with {', '.join(stored)}",
            fix="give its parameters defaults, or store their values in the checkpoint under 'config'"
            if stored is None
            else did_you_mean(missing[0], stored),
        )
    shown = ", ".join("config" if value is stored else key for key, value in handed.items())
    try:
        return function(**handed), f"{name}({shown})"
    except TrainlabError:
        raise
    except Exception as error:
        raise SubjectError(
            f"{name}({shown}) failed: {type(error).__name__}: {error}",
            seen=None if stored is None else f"config with {', '.join(stored)}",
            fix="the traceback above ends in the line that failed",
        ) from error


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Seeds every random stream inside the block and puts all of them back, so that building disturbs nobody."""
    import numpy as np
    import torch

    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - the stream users have
    # seeding a device that has not started would queue the seed for its start, and outlive the block
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = torch.cuda.get_rng_state_all() if started else []
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    if started:
        torch.cuda.manual_seed_all(seed)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        torch.set_rng_state(kept[2])
        if started:
            torch.cuda.set_rng_state_all(devices)


def _arguments(parameters: Mapping[str, inspect.Parameter], stored: Config | None) -> dict[str, Any]:
    if stored is None:
        return {}
    plain = [p for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    whole = next((p.name for p in plain if p.name in WHOLE), None)
    if whole is not None:
        return {whole: stored} | {
            p.name: stored[p.name] for p in plain if _is_required(p) and p.name in stored and p.name != whole
        }
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(stored)
    named = {p.name: stored[p.name] for p in plain if p.name in stored}
    required = [p for p in plain if _is_required(p)]
    if not named and len(required) == 1 and required[0].annotation not in PLAIN:
        return {required[0].name: stored}
    return named


def _is_required(parameter: inspect.Parameter) -> bool:
    variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not variable


def _is_file(place: str) -> bool:
    return place.endswith(".py")


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise SubjectError(
                f"importing {name} failed: {error}",
                fix="install what it imports, or name its folder in 'paths' of trainlab.toml",
            ) from error
        raise SubjectError(
            f"there is no module {error.name!r}",
            seen="searched " + ", ".join(sys.path[:3]) + " …",
            fix="run from the folder that holds it, name that folder in 'paths' of trainlab.toml, or give 'path/file.py:name'",
        ) from None
    except Exception as error:
        raise SubjectError(
            f"importing {name} failed: {type(error).__name__}: {error}",
            fix="the traceback above ends in the line that failed",
        ) from error


def _import_file(file: Path) -> ModuleType:
    for module in list(sys.modules.values()):
        # read from its dict: asking a lazy module for an attribute may import it
        known = module.__dict__.get("__file__") if isinstance(module, ModuleType) else None
        if known and Path(known) == file and module.__name__ != "__main__":
            return module
    package, name = file.parent, file.stem
    while (package / "__init__.py").is_file():
        package, name = package.parent, f"{package.name}.{name}"
    if "." in name:
        sys.path.insert(0, str(package))
        try:
            module = _import_module(name)
        finally:
            sys.path.remove(str(package))
        if Path(module.__file__ or "") != file:
            raise SubjectError(
                f"{file} is {name} in its package, and another module has that name",
                seen=module.__file__,
                fix="start a fresh Python, or import one of the two under its package's name",
            )
        return module
    if name in sys.modules or _found_elsewhere(name, file):
        name = f"{name}_{hashlib.sha1(str(file).encode(), usedforsecurity=False).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look the module up by its name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise SubjectError(
            f"importing {file} failed: {type(error).__name__}: {error}",
            fix="the traceback above ends in the line that failed",
        ) from error
    return module


def _found_elsewhere(name: str, file: Path) -> bool:
    """Would ``import name`` find something other than the file, once the file's folder is no longer searched?"""
    mine = str(file.parent)
    spec = importlib.machinery.PathFinder.find_spec(name, [folder for folder in sys.path if folder != mine])
    builtin = name in sys.builtin_module_names or name in sys.stdlib_module_names
    return builtin or (spec is not None and spec.origin != str(file))
