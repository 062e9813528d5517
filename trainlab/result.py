"""A result: the plain frozen record between the probe, which may touch the model, and all that may not.

A room's result is one class of fields that names its kind; it becomes a frozen dataclass by itself::

    class VariationResult(Result, kind="variation", schema=1):
        dtype: str
        layer_name: tuple[str, ...] = column("layer")
        layer_variation: np.ndarray = column("layer")
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import numpy as np

from trainlab.errors import ResultError, UsageError, did_you_mean
from trainlab.markup import block, number, table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Result", "column", "write_whole"]

_SCALARS = (bool, int, float, str, type(None))


def column(name: str) -> Any:
    """Declares a field to be a one-dimensional column of the table ``name``.

    Columns of one table have one length; `Result.rows` and `Result.frame` show them side by side, without
    the ``name_`` that their field names start with.
    """
    return dataclasses.field(metadata={"table": name})


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(column, dataclasses.field))
class Result:
    """Base of every result: what a probe found, as plain values that last.

    Fields hold None, bool, int, float, str, tuples of those, and numeric numpy arrays, which become
    read-only copies.

    Raises:
        ResultError: A field holds anything else, or the columns of a table differ in length.
    """

    kind: ClassVar[str]
    schema: ClassVar[int]
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __init_subclass__(cls, *, kind: str, schema: int = 1) -> None:
        cls.kind = kind
        cls.schema = schema
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _plain(self, field.name, getattr(self, field.name)))
        for name, columns in self._tables().items():
            lengths = {field: len(getattr(self, field)) for field in columns}
            if len(set(lengths.values())) > 1:
                raise ResultError(
                    f"the columns of table {name!r} in {type(self).__name__} differ in length",
                    seen=lengths,
                    fix="give every column one entry per row",
                )

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    # --- to and from a file

    def to_dict(self) -> dict[str, Any]:
        """Everything, lossless, as strict JSON values: arrays in base64, NaN and Inf tagged."""
        data = {field.name: _encode(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {"kind": self.kind, "schema": self.schema, "data": data}

    def brief(self) -> dict[str, Any]:
        """The same for a reader in a hurry: arrays and long tuples become shape, min, mean and max.

        Lossy on purpose and marked so; `from_dict` refuses it.
        """
        data = {field.name: _brief(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {"kind": self.kind, "schema": self.schema, "brief": True, "data": data}

    def slim(self) -> Self:
        """The same without what is too large for a page: what a saved notebook stores.

        Nothing is by default; a room that keeps tensors to draw from leaves them out here.
        """
        return self

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Rebuilds a result from what `to_dict` returned, today or years ago.

        Raises:
            ResultError: It is another kind, a brief, of a newer schema, or lacks a field that has no default.
        """
        if stored.get("kind") != cls.kind:
            raise ResultError(
                f"this is not a {cls.kind!r} result",
                seen=f"kind {stored.get('kind')!r}",
                fix="open it with the diagnostic of that name",
            )
        if stored.get("brief"):
            raise ResultError(
                f"this {cls.kind!r} result is a brief, which leaves values out",
                seen='"brief": true',
                fix="open the file that Result.save wrote",
            )
        if stored["schema"] > cls.schema:
            raise ResultError(
                f"this {cls.kind!r} result was saved by a newer trainlab",
                seen=f"schema {stored['schema']}, this version knows up to {cls.schema}",
                fix="pip install -U trainlab",
            )
        data = stored["data"]
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = [name for name in data if name not in fields]
        if unknown:
            raise ResultError(
                f"this {cls.kind!r} result holds a field that is not known",
                seen=unknown[0],
                fix=did_you_mean(unknown[0], fields),
            )
        missing = [
            name
            for name, field in fields.items()
            if name not in data and field.default is dataclasses.MISSING
        ]
        if missing:
            raise ResultError(
                f"this {cls.kind!r} result lacks {', '.join(missing)}",
                seen=f"fields {', '.join(data)}",
                fix="probe again and save",
            )
        return cls(**{name: _decode(value) for name, value in data.items()})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the result as JSON; the file appears whole or not at all."""
        text = json.dumps(self.to_dict(), allow_nan=False, indent=1)
        return write_whole(path, text.encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a result that `save` wrote.

        Raises:
            ResultError: The file is not there, not JSON, or not such a result.
        """
        file = Path(path)
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ResultError(
                f"there is no file {str(file)!r}", fix="give the path that Result.save returned"
            ) from None
        except ValueError as error:
            raise ResultError(
                f"{str(file)!r} is not JSON", seen=error, fix="give a file that Result.save wrote"
            ) from None
        if not isinstance(stored, dict) or not {"kind", "schema", "data"} <= stored.keys():
            raise ResultError(
                f"{str(file)!r} holds no result",
                seen=f"top-level {_names(stored)}",
                fix="give a file that Result.save wrote",
            )
        return cls.from_dict(stored)

    # --- tables

    @classmethod
    def _tables(cls) -> dict[str, list[str]]:
        tables: dict[str, list[str]] = {}
        for field in dataclasses.fields(cls):
            if "table" in field.metadata:
                tables.setdefault(field.metadata["table"], []).append(field.name)
        return tables

    def rows(self, table: str | None = None) -> list[dict[str, Any]]:
        """One dict per row of a table, the result's first by default; a result without tables is one row.

        Raises:
            UsageError: There is no such table.
        """
        tables = self._tables()
        if table is None:
            if not tables:
                return [
                    {
                        f.name: v
                        for f in dataclasses.fields(self)
                        if isinstance(v := getattr(self, f.name), _SCALARS)
                    }
                ]
            table = next(iter(tables))
        if table not in tables:
            raise UsageError(
                f"a {self.kind!r} result has no table {table!r}", fix=did_you_mean(table, tables)
            )
        columns = {
            name.removeprefix(f"{table}_"): v.tolist()
            if isinstance(v := getattr(self, name), np.ndarray)
            else v
            for name in tables[table]
        }
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def frame(self, table: str | None = None) -> pd.DataFrame:
        """The same table as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows(table))

    # --- how it shows itself

    def _shape(self) -> list[dict[str, Any]]:
        return [{"field": f.name, "value": _sketch(getattr(self, f.name))} for f in dataclasses.fields(self)]

    def __repr__(self) -> str:
        inside = "\n".join(f"  {row['field']}: {row['value']}" for row in self._shape())
        return f"{type(self).__name__}(\n{inside}\n)"

    def _repr_html_(self) -> str:
        parts: list[str] = [table(self._shape())]
        parts += [block(name, [table(self.rows(name), limit=12)]) for name in self._tables()]
        return block(f"{self.kind} result", parts)


def write_whole(path: str | os.PathLike[str], content: bytes) -> Path:
    """Writes a file that appears under its name whole or not at all, and returns its path."""
    file = Path(path)
    if not file.parent.is_dir():
        raise UsageError(
            f"cannot write {str(file)!r}", seen=f"no folder {str(file.parent)!r}", fix="make the folder first"
        )
    temporary = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(file)
    except OSError as error:
        raise UsageError(
            f"cannot write {str(file)!r}",
            seen=error.strerror,
            fix="another folder, or see its permissions and df",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return file


def _plain(result: Result, name: str, value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        array = np.array(value, order="C")
        array.setflags(write=False)
        return array
    if isinstance(value, tuple):
        items = tuple(item.item() if isinstance(item, np.generic) else item for item in value)
        if all(isinstance(item, _SCALARS) for item in items):
            return items
    raise ResultError(
        f"{type(result).__name__}.{name} cannot be kept in a result",
        seen=type(value).__name__,
        fix="use None, bool, int, float, str, a tuple of those, or a numeric numpy array",
    )


def _encode(value: object) -> Any:
    if isinstance(value, np.ndarray):
        little = value.astype(value.dtype.newbyteorder("<"), copy=False)
        return {
            "$array": base64.b64encode(little.tobytes()).decode(),
            "dtype": little.dtype.str,
            "shape": list(value.shape),
        }
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return {"$float": str(value)}
    return value


def _decode(value: Any) -> object:
    if isinstance(value, list):
        return tuple(_decode(item) for item in value)
    if isinstance(value, dict) and "$float" in value:
        return float(value["$float"])
    if isinstance(value, dict) and "$array" in value:
        flat = np.frombuffer(base64.b64decode(value["$array"]), dtype=np.dtype(value["dtype"]))
        return flat.reshape(value["shape"])
    return value


def _brief(value: object) -> Any:
    if isinstance(value, np.ndarray) and value.size > 8:
        finite = value[np.isfinite(value)]
        if finite.size == 0 or value.dtype.kind == "c":
            return {"shape": list(value.shape)}
        return {
            "shape": list(value.shape),
            "min": float(finite.min()),
            "mean": float(finite.mean()),
            "max": float(finite.max()),
            "nonfinite": int(value.size - finite.size),
        }
    if isinstance(value, np.ndarray):
        return _encode(tuple(value.ravel().tolist()))
    if isinstance(value, tuple) and len(value) > 8:
        return {"length": len(value), "first": [_encode(item) for item in value[:3]]}
    return _encode(value)


def _sketch(value: object) -> str:
    if isinstance(value, np.ndarray):
        size = "×".join(map(str, value.shape)) or "scalar"
        return f"{size} {value.dtype}"
    if isinstance(value, tuple):
        shown = ", ".join(number(item) for item in value[:3])
        return f"({shown}{', …' if len(value) > 3 else ''}) {len(value)} values" if value else "()"
    return number(value) if value is not None else "None"


def _names(stored: object) -> str:
    return f"keys {', '.join(map(str, stored))}" if isinstance(stored, dict) else type(stored).__name__
