"""Where do the pages lie, which parameters do they take, and what does a typed word mean to them?

Everything here is done before a kernel starts, and loads neither papermill nor torch.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import os
import tokenize
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainlab.errors import PageError, UsageError, did_you_mean
from trainlab.flow import read_flow
from trainlab.subjects.checkfile.sniff import SUFFIXES

__all__ = ["Parameter", "bind", "open_page", "parameters", "subject_name", "subject_of", "template"]

FILES = ("ckpt", "log", "logs")  # parameters that name the file, or the folder, that a page looks at

_PACKAGE = Path(__file__).resolve().parents[1]


def template(page: str | os.PathLike[str]) -> Path:
    """Finds a page by its name wherever pip put it; a path to a notebook of your own passes through.

    Args:
        page: ``variation``, or ``my/page.ipynb``.

    Raises:
        UsageError: There is no such page.
    """
    if str(page).endswith(".ipynb"):
        own = Path(page)
        if not own.is_file():
            raise UsageError(
                f"there is no page {str(page)!r}", fix=f"one of: {', '.join(_pages())}, or a path"
            )
        return own
    pages = _pages()
    if str(page) not in pages:
        raise UsageError(f"there is no page {str(page)!r}", fix=did_you_mean(str(page), pages))
    return pages[str(page)]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One line of a page's parameters cell: ``name: type = default  # comment``."""

    name: str
    type: str
    default: object
    comment: str

    @property
    def optional(self) -> bool:
        """None is a value too: the page says ``"Optional[int]"``."""
        return self.type.startswith("Optional[")

    @property
    def kind(self) -> str:
        """The type's bare name: ``dict`` for ``dict[str, float]``, ``int`` for ``Optional[int]``."""
        return self.type.removeprefix("Optional[").partition("[")[0].rstrip("]")

    def typed(self, given: object) -> object:
        """Gives the value that a person meant, as the page's annotation types it.

        Args:
            given: Text as it was typed, or a value that has the type already.

        Raises:
            UsageError: It cannot be read as that type.
        """
        if self.optional and given in (None, "", "null", "none", "None"):
            return None
        if self.kind == "str" and isinstance(given, (str, os.PathLike)):
            return os.fspath(given)
        if isinstance(given, str):
            try:
                return _READERS[self.kind](given)
            except ValueError:
                raise self._refusal(given) from None
        if self.kind == "float" and type(given) is int:
            return float(given)
        if type(given).__name__ != self.kind:
            raise self._refusal(given)
        return given

    def _refusal(self, given: object) -> UsageError:
        return UsageError(
            f"parameter {self.name!r} is {_WORDS[self.kind]}{', or null' if self.optional else ''}",
            seen=repr(given),
            fix=f"{self.name}={_example(self.default)}  # {self.comment}",
        )


def parameters(page: str | os.PathLike[str]) -> tuple[Parameter, ...]:
    """Lists what a page takes, in the order of its parameters cell.

    Raises:
        UsageError: There is no such page.
        PageError: The page has no parameters cell, or one with a line that is not
            ``name: type = default  # comment``.
    """
    path = template(page)
    for cell in open_page(path).cells:
        if "parameters" in cell.metadata.get("tags", ()):
            return _parse(path.name, cell.source)
    raise PageError(
        f"{path.name} takes no parameters",
        seen="no cell has the tag 'parameters'",
        fix="tag the cell that sets them",
    )


def subject_name(page: str | os.PathLike[str]) -> str:
    """The parameter that names what a page looks at: its first, where that is one of `FILES`."""
    first = next((parameter.name for parameter in parameters(page)), "")
    return first if first in FILES else FILES[0]


def subject_of(values: Mapping[str, object]) -> str:
    """The file or folder that a page was given; empty where it was none."""
    return next((str(values[name]) for name in FILES if values.get(name)), "")


def bind(page: str | os.PathLike[str], given: Mapping[str, object]) -> dict[str, object]:
    """Types the given values as the page's parameters cell says.

    Raises:
        UsageError: A name that the page does not know, a value of another type, or a file that is not there.
    """
    known = {parameter.name: parameter for parameter in parameters(page)}
    for name in given:
        if name not in known:
            raise UsageError(
                f"page {template(page).stem!r} has no parameter {name!r}", fix=did_you_mean(name, known)
            )
    values = {name: known[name].typed(value) for name, value in given.items()}
    for name in FILES:
        path = Path(str(values.get(name) or "."))
        if not path.exists() and not set("*?[") & set(str(path)):  # a glob is opened by the page
            there = path.parent.iterdir() if path.parent.is_dir() else ()
            beside = [
                item.name for item in there if name != "ckpt" or item.is_dir() or item.suffix in SUFFIXES
            ]
            what = "checkpoint" if name == "ckpt" else "log"
            raise UsageError(f"there is no {what} {path}", fix=did_you_mean(path.name, beside))
    return values


def open_page(path: str | os.PathLike[str]) -> Any:
    """Opens a notebook file of any version as a version 4 node.

    Raises:
        PageError: There is no such file, or it is no notebook.
    """
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise PageError(f"there is no notebook {os.fspath(path)}") from None
    except Exception as error:
        raise PageError(
            f"{os.fspath(path)} is not a notebook", seen=f"{type(error).__name__}: {str(error)[:200]}"
        ) from error


def _pages() -> dict[str, Path]:
    # a wheel carries the pages inside the package; a checkout keeps them beside it
    folder = _PACKAGE / "notebooks"
    if not folder.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file():
        folder = _PACKAGE.parent / "notebooks"
    return {path.stem: path for path in sorted(folder.glob("*.ipynb"))}


def _parse(page: str, source: str) -> tuple[Parameter, ...]:
    try:
        lines = ast.parse(source).body
    except SyntaxError as error:
        raise PageError(f"the parameters cell of {page} is not plain Python", seen=str(error)) from error
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = []
    for line in lines:
        try:
            found.append(_parameter(line, comments.get(line.end_lineno or line.lineno, "")))
        except ValueError as error:
            raise PageError(
                f"the parameters cell of {page} has a line that says no type",
                seen=f"{ast.unparse(line)} ({error})",
                fix=f"name: type = default  # comment, with a type of {', '.join(_READERS)}",
            ) from error
    return tuple(found)


def _parameter(line: ast.stmt, comment: str) -> Parameter:
    if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None):
        raise ValueError("not an annotated assignment")
    # a quoted type, since the page does not import typing
    kind = ast.unparse(line.annotation).strip("'")
    found = Parameter(line.target.id, kind, ast.literal_eval(line.value), comment)
    if found.kind not in _READERS:
        raise ValueError(f"type {kind}")
    return found


def _example(default: object) -> str:
    if default is None or isinstance(default, bool):
        return "null" if default is None else str(default).lower()
    return str(default) or "…"


def _bool(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _flow(kind: type) -> Callable[[str], Any]:
    """A reader of JSON or YAML's flow form that gives a list or a mapping."""

    def read(text: str) -> Any:
        value = read_flow(text)
        if type(value) is not kind:
            raise ValueError(text)
        return value

    return read


_READERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": _bool,
    "list": _flow(list),
    "dict": _flow(dict),
}
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list, as JSON or [a, b]",
    "dict": "a mapping, as JSON or {name: value}",
}
