"""Plain values in YAML's or JSON's flow form, as people type them: ``{x: {shape: [2, 3]}, lr: 1e-4}``."""

from __future__ import annotations

import re
from typing import Any

import yaml

__all__ = ["read_flow"]


class _Loader(yaml.SafeLoader):
    """YAML with JSON's idea of a number: YAML 1.1 takes ``1e-4`` for text, ``007`` for seven, ``no`` for false."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own form


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"null", "n"),
    ("int", r"-?(?:0|[1-9]\d*)", "-0123456789"),
    ("float", r"-?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?", "-.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))


def read_flow(text: str) -> Any:
    """Reads one value: a mapping, a list, a number, true, false, null or a string.

    Raises:
        ValueError: The text is not YAML; the message is one line.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader with fewer types
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
