"""Give a probe the subjects that it asks for by name, and open nothing else."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainlab.errors import SubjectError, UsageError, did_you_mean
from trainlab.markup import block, paragraph
from trainlab.subjects.checkpoint import Checkpoint, checkpoints_in, open_checkpoint
from trainlab.subjects.recipe import Recipe, find_recipe

if TYPE_CHECKING:
    import torch

    from trainlab.subjects.model import LoadedModel
    from trainlab.subjects.runlog.log import RunLog

__all__ = ["SUBJECT_NAMES", "Subjects", "resolve"]

SUBJECT_NAMES = ("model", "batch", "loss", "ckpt", "ckpts", "log", "logs", "data", "fresh")
GIVE = {
    "model": "model= an nn.Module, 'package.module:callable' or 'path/file.py:callable', or name it in trainlab.toml",
    "batch": "batch= a tensor, tuple or dict, 'package.module:callable', a file or a spec, or name it in trainlab.toml",
    "loss": "loss= a callable or 'package.module:callable', or name it in trainlab.toml",
    "ckpt": "ckpt= the path of a checkpoint",
    "ckpts": "ckpts= a file, a glob or a folder of checkpoints",
    "log": "log= the path of a run's log",
    "logs": "logs= a folder, a glob or the paths of several runs' logs",
    "data": "data= the data set",
}


@dataclass(frozen=True, eq=False, repr=False)
class Subjects(Mapping[str, Any]):
    """What a probe is called with: ``probe(**subjects)``.

    Attributes:
        opened: The subjects by name.
        origin: Where each came from, one sentence.
        example: They are the diagnostic's own example, not the caller's.
        recipe: The recipe that was found for the checkpoint, or None.
    """

    opened: Mapping[str, Any]
    origin: Mapping[str, str]
    example: bool = False
    recipe: Recipe | None = None

    def __getitem__(self, name: str) -> Any:
        return self.opened[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.opened)

    def __len__(self) -> int:
        return len(self.opened)

    def _lines(self) -> list[str]:
        lines = [
            f"{name}: {self.origin.get(name, type(value).__name__)}" for name, value in self.opened.items()
        ]
        return [*lines, f"recipe: {self.recipe.path}"] if self.recipe else lines

    def _title(self) -> str:
        return "Subjects (the built-in example)" if self.example else "Subjects"

    def __repr__(self) -> str:
        return "\n  ".join([self._title(), *self._lines()])

    def _repr_html_(self) -> str:
        return block(self._title(), [paragraph(line) for line in self._lines()])


def resolve(
    probe: Callable[..., Any],
    given: Mapping[str, object],
    *,
    example: Callable[[], Mapping[str, object]] | None = None,
    trust: bool = False,
    device: str | torch.device | None = None,
) -> Subjects:
    """Opens the subjects that a probe asks for by parameter name, and only those.

    The names are ``model``, ``batch``, ``loss``, ``ckpt``, ``ckpts``, ``log``, ``logs``, ``data`` and ``fresh``. Strings are
    opened (`load_model`, `load_batch`, `open_checkpoint`; a loss is imported, and made where it is a class); objects
    pass through; ``log`` and ``logs`` become a `RunLog` and a `RunLogs`; ``ckpts`` (files that may be torn) and
    ``data`` are handed on as they are given. What is not given comes from the
    recipe of the checkpoint, ``trainlab.toml``. ``fresh`` is the model's architecture at init, or None where it
    cannot be rebuilt. The batch goes where the model is.

    Args:
        probe: Whose signature is read; a subject without a default is required.
        given: Subjects by name; None and "" mean not given.
        example: Makes the subjects to use when nothing at all is given.
        trust: Run whatever code the checkpoint holds. Only for files that you or yours have written.
        device: Where model and batch go; by default where the model that is given is, or the best there is.

    Raises:
        UsageError: A name in ``given`` is no subject, or there is no such device.
        SubjectError: A required subject is missing, or one cannot be opened.
    """
    for name in given:
        if name not in SUBJECT_NAMES:
            raise UsageError(f"there is no subject {name!r}", fix=did_you_mean(name, SUBJECT_NAMES))
    present = {
        name: value
        for name, value in given.items()
        if value is not None and not (isinstance(value, str) and not value)
    }
    asked = {name: p for name, p in inspect.signature(probe).parameters.items() if name in SUBJECT_NAMES}
    if not present and example is not None:
        made = {name: value for name, value in example().items() if name in asked}
        made |= {name: None for name in asked if name == "fresh" and name not in made}
        return Subjects(made, dict.fromkeys(made, "the built-in example"), example=True)
    if "ckpt" in present and {"ckpt", "ckpts"} <= asked.keys():
        named = present["ckpt"]
        several = named if isinstance(named, list | tuple) else checkpoints_in(named)
        if several:  # the last one stands for them: its config builds the model
            present = {"ckpts": several, **present, "ckpt": several[-1]}
    opener = _Opener(present, trust, device)
    opened: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, parameter in asked.items():
        required = parameter.default is parameter.empty
        if not required and not opener.can_open(name):
            continue
        opened[name], origin[name] = opener.open(name)
    return Subjects(opened, origin, recipe=opener.recipe)


@dataclass(frozen=True)
class _Opener:
    """Opens each subject once, and the checkpoint for all of them."""

    given: Mapping[str, Any]
    trust: bool
    device: str | torch.device | None

    @cached_property
    def checkpoint(self) -> Checkpoint | None:
        ckpt = self.given.get("ckpt")
        return (
            ckpt if ckpt is None or isinstance(ckpt, Checkpoint) else open_checkpoint(ckpt, trust=self.trust)
        )

    @cached_property
    def recipe(self) -> Recipe | None:
        named = self.given.get("ckpt", self.given.get("ckpts"))
        if isinstance(named, Checkpoint):
            return find_recipe(named.path)
        if not isinstance(named, str | os.PathLike):  # several paths may lie in several projects
            return None
        before_glob = re.split(r"[*?\[]", os.fspath(named), maxsplit=1)[0]
        return find_recipe(before_glob or ".")

    @cached_property
    def model(self) -> LoadedModel:
        from trainlab.subjects.model import open_model

        return open_model(self.given.get("model"), self.checkpoint, self.recipe, device=self.device)

    def can_open(self, name: str) -> bool:
        """Was the subject given, by name, by the recipe or by the checkpoint?"""
        if name in self.given or bool(getattr(self.recipe, name, "")):
            return True
        if name == "log":
            return self._beside is not None
        if name in ("model", "fresh"):
            return (
                self.can_open("model")
                if name == "fresh"
                else bool(self.checkpoint and self.checkpoint.describes_itself)
            )
        return False

    def open(self, name: str) -> tuple[Any, str]:
        """The subject and where it came from."""
        if not self.can_open(name) and not (name in ("model", "fresh") and self.checkpoint):
            asked = "model" if name == "fresh" else name
            raise SubjectError(
                f"a {asked} is needed, and none was given",
                seen=f"given: {', '.join(self.given) or 'nothing'}",
                fix=GIVE[asked],
            )
        if name == "model":
            return self.model.module, self.model.origin
        if name == "fresh" and name not in self.given:
            fresh = self.model.fresh
            return (
                (fresh(), "the model at init (seed 0)")
                if fresh
                else (None, "none: the model cannot be rebuilt")
            )
        if name == "ckpt":
            assert self.checkpoint is not None
            return self.checkpoint, f"{self.checkpoint.path} ({self.checkpoint.summary()})"
        if name == "batch":
            return self._batch()
        if name == "loss":
            return self._loss()
        if name in ("log", "logs"):
            return self._log(name)
        return self.given[name], str(self.given[name]) if name == "ckpts" else "as given"

    @cached_property
    def _beside(self) -> RunLog | None:
        """The newest log with a loss in it that lies in the checkpoint's folder, or in one of the two above it."""
        from trainlab.subjects.runlog.opening import logs_in, open_log

        named = self.given.get("ckpt")
        if not isinstance(named, str | os.PathLike | Checkpoint):
            return None
        file = (named.path if isinstance(named, Checkpoint) else Path(named)).absolute()
        for folder in [file, *file.parents][0 if file.is_dir() else 1 :][:3]:
            for each in sorted(logs_in(folder, below=False), key=lambda path: -path.stat().st_mtime):
                with suppress(SubjectError):  # what is there may be something else
                    log = open_log(each)
                    if log.losses:
                        return log
        return None

    def _log(self, name: str) -> tuple[Any, str]:
        from trainlab.subjects.runlog.following import Follower
        from trainlab.subjects.runlog.log import RunLog
        from trainlab.subjects.runlog.opening import open_log, open_logs

        if name not in self.given:
            assert self._beside is not None
            return self._beside, f"{self._beside.path}, beside the checkpoint"
        given = self.given[name]
        if isinstance(given, RunLog | Mapping):
            return given, "as given"
        if isinstance(given, Follower):
            return given.read(), f"{given.path}, as it stands"
        if name == "log":
            return open_log(given), str(given)
        named = given if isinstance(given, str | os.PathLike) else ", ".join(map(str, given))
        return open_logs(given), str(named)

    @property
    def config(self) -> Mapping[str, Any] | None:
        return self.checkpoint.config if self.checkpoint else None

    def _batch(self) -> tuple[Any, str]:
        from trainlab.subjects.batch import open_batch
        from trainlab.subjects.model import chosen_device
        from trainlab.visit import device_of

        batch, recipe = self._named("batch")
        follows = self.device is None and self.can_open("model")
        device = device_of(self.model.module) if follows else chosen_device(self.device)
        made, origin = open_batch(
            batch,
            config=self.config,
            device=device,
            trust=self.trust,
            base=recipe.folder if recipe else None,
            recipe=self.recipe,
        )
        return made, origin + (f", as {recipe.path} says" if recipe else "")

    def _loss(self) -> tuple[Any, str]:
        from trainlab.subjects.importing import call_with_config, imported, seeded

        loss, recipe = self._named("loss")
        if not isinstance(loss, str):
            return loss, f"{getattr(loss, '__qualname__', type(loss).__name__)}, as given"
        paths = self.recipe.paths if self.recipe else ()
        with seeded(), imported(loss, base=recipe.folder if recipe else None, paths=paths) as found:
            called = (
                call_with_config(found, self.config, name=loss) if isinstance(found, type) else (found, loss)
            )
        function, origin = called
        if not callable(function):
            raise SubjectError(
                f"the loss {loss} cannot be called", seen=type(function).__name__, fix=GIVE["loss"]
            )
        return function, origin + (f", as {recipe.path} says" if recipe else "")

    def _named(self, name: str) -> tuple[Any, Recipe | None]:
        """What was given, or what the recipe names; and the recipe, where it was that."""
        return (self.given[name], None) if name in self.given else (getattr(self.recipe, name), self.recipe)
