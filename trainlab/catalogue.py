"""Which diagnostics are there? Ours by walking the folder, everybody's by entry point."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

import trainlab.diagnostics
from trainlab.diagnostic import Diagnostic
from trainlab.errors import UsageError, did_you_mean
from trainlab.finding import Rule
from trainlab.markup import block, paragraph, table

__all__ = ["Catalogue", "Explanation", "explain", "installed"]

GROUP = "trainlab.diagnostics"
Room = Diagnostic[..., Any, Any]


@dataclasses.dataclass(frozen=True, repr=False)
class Catalogue(Mapping[str, Room]):
    """Every installed diagnostic by name."""

    rooms: Mapping[str, Room]

    def __getitem__(self, name: str) -> Room:
        """The diagnostic of that name; an error with advice where there is none."""
        if name not in self.rooms:
            raise UsageError(f"there is no diagnostic {name!r}", fix=did_you_mean(name, self.rooms))
        return self.rooms[name]

    def __contains__(self, name: object) -> bool:
        return name in self.rooms

    def __iter__(self) -> Iterator[str]:
        return iter(self.rooms)

    def __len__(self) -> int:
        return len(self.rooms)

    def __repr__(self) -> str:
        width = max(map(len, self.rooms), default=0)
        return "\n".join(f"{name:<{width}}  {room.question}" for name, room in self.rooms.items())

    def _repr_html_(self) -> str:
        rows = [
            {
                "diagnostic": name,
                "question": room.question,
                "rules": f"{room.rules[0].code} … {room.rules[-1].code}",
            }
            for name, room in self.rooms.items()
        ]
        return block("diagnostics", [table(rows)])


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation:
    """What a rule checks, why it matters and how to mend what it finds."""

    rule: Rule[Any, Any]
    room: Room

    def __repr__(self) -> str:
        rule = self.rule
        limits = ", ".join(f"{field.name}={field.default}" for field in dataclasses.fields(self.room.limits))
        return "\n".join(
            [
                f"{rule.code}  {rule.title}  ({self.room.name})",
                f"  what: {rule.what}",
                f"  why:  {rule.why}",
                f"  fix:  {rule.fix}",
                f"  limits of {self.room.name}: {limits}",
            ]
        )

    def _repr_html_(self) -> str:
        rule = self.rule
        parts = [
            paragraph(f"{head}: {text}")
            for head, text in (("What", rule.what), ("Why", rule.why), ("Fix", rule.fix))
        ]
        return block(f"{rule.code} {rule.title} ({self.room.name})", parts)


def installed() -> Catalogue:
    """Lists every diagnostic: the rooms of trainlab, then those that other packages bring.

    A package brings one by an entry point in the group ``trainlab.diagnostics`` that names its `Diagnostic`.

    Raises:
        UsageError: Two have the same name or share a code, or an entry point does not lead to a diagnostic.
    """
    found: dict[str, tuple[str, Room]] = {}
    for module in pkgutil.iter_modules(trainlab.diagnostics.__path__, f"{trainlab.diagnostics.__name__}."):
        _add(found, module.name, importlib.import_module(module.name).diagnostic)
    for point in entry_points(group=GROUP):
        try:
            room = point.load()
        except Exception as error:
            raise UsageError(
                f"the diagnostic {point.name!r} of another package cannot be imported",
                seen=f"{point.value}: {type(error).__name__}: {error}",
                fix="mend or uninstall that package",
            ) from error
        if not isinstance(room, Diagnostic):
            raise UsageError(
                f"entry point {point.name!r} does not lead to a diagnostic",
                seen=f"{point.value} is a {type(room).__name__}",
                fix="name the Diagnostic record: package.module:diagnostic",
            )
        _add(found, point.value, room)
    return Catalogue({name: room for name, (_, room) in found.items()})


def explain(code: str) -> Explanation:
    """Tells what the rule of that code checks, why it matters and how to fix what it finds.

    Raises:
        UsageError: There is no such code.
    """
    rules = {rule.code: Explanation(rule, room) for room in installed().values() for rule in room.rules}
    if code.upper() not in rules:
        raise UsageError(f"there is no rule {code!r}", fix=did_you_mean(code.upper(), rules))
    return rules[code.upper()]


def _add(found: dict[str, tuple[str, Room]], origin: str, room: Room) -> None:
    for other, known in found.values():
        shared = {rule.code for rule in room.rules} & {rule.code for rule in known.rules}
        clash = f"name {room.name!r}" if known.name == room.name else f"code {min(shared)}" if shared else ""
        if clash:
            raise UsageError(
                f"two diagnostics have the {clash}",
                seen=f"{other} and {origin}",
                fix="rename or uninstall one of them",
            )
    found[room.name] = (origin, room)
