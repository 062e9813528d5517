"""The settings that a text log holds before its first record: dumps of arguments, and lines that name one each."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping

__all__ = ["claims", "settings"]

_DUMP = re.compile(r"(?:\b[A-Za-z]\w*)?\((?=\s*_?[a-z]\w*=)|\{(?=\s*['\"])")
_ARGUMENT = re.compile(
    r"""(?P<name>\w+)\s*=\s*(?P<value>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\[[^\[\]]*\]|\([^()]*\)|\{[^{}]*\}|<[^<>]*>|[^,()\[\]{}]+)(?=,|\)|$)"""
)
_LINE = re.compile(
    r"^[\s|*>-]*[\"']?(?P<name>[A-Za-z_][\w./-]{0,50}(?: [A-Za-z]\w*){0,4})[\"']?\s*(?P<sign>:|=|\.{3,}|\||\s{3,})\s*(?P<value>[^\s|].*?)[\s,|]*$"
)
_PREFIX = re.compile(
    r"^(?:\[[^\]]*\]|\d{4}-\d\d-\d\d[ T][\d:.,]+|[IWE]\d{4} [\d:.]+|[\d/]+ [\d:]+)[\s:|-]*(?:[\w.]+ - )?(?:INFO|DEBUG|root|main|__main__)?[\s:|-]*(?:[\w.]+ - )?"
)
_CODE = re.compile(r"^\s*(?:import |from \w+ import|def |class |#!/)", re.MULTILINE)
_LITERAL = re.compile(
    r"^(?:[-+]?(?:\d|\.\d)[\d_.]*(?:[eE][-+]?\d+)?|True|False|None|null|true|false|'.*'|\".*\"|\[.*\]|\(.*\)|\{.*\})$"
)
_CLAIMS = {
    "total_steps": r"(?:total optimization steps|max_steps|total_steps|num_iterations|train_iters|max_iters|total_iter)[^\w\-\n]{1,60}(?<!-)(\d[\d,]*)",
    "total_epochs": r"(?:num[ _](?:train[ _])?epochs|max_epochs?|total_epochs?|\bepochs)[^\w\-\n]{1,60}(?<!-)(\d+)",
    "batch_size": r"(?:total train batch size[^=\n]*|global[ _]batch[ _]size|train_batch_size|\bbatch_size(?:_per_gpu)?)[^\w\-\n]{1,60}(?<!-)(\d+)",
    "dataset_size": r"(?:num examples|dataset_size|number of (?:train(?:ing)? )?(?:images|samples|examples))[^\w\-\n]{1,60}(?<!-)(\d[\d,]*)",
    "parameters": r"(?:number of (?:trainable |model )?parameters|total params|num_params|trainable params)[^\w\-\n]{1,12}(\d[\d,]*\.?\d*)\s?([MBK]?)",
}


def settings(lines: list[str]) -> dict[str, object]:
    """The settings by name; of one that is told twice, the first.

    Args:
        lines: What stands before the first record.
    """
    text = "\n".join(lines)
    found: dict[str, object] = {}
    for dump in _DUMP.finditer(text):
        body = _closed(text, dump.end() - 1)
        named = (
            _parsed(body)
            if body.startswith("{")
            else {m["name"]: _literal(m["value"].strip()) for m in _ARGUMENT.finditer(body[1:])}
        )
        for name, value in named.items():
            found.setdefault(name, value)
    if not _CODE.search(text):
        for line in lines:
            told = _LINE.match(_PREFIX.sub("", line))
            if told and len(told["value"]) <= 200 and (told["sign"] != "|" or line.lstrip().startswith("|")):
                value = _literal(told["value"])
                plain = not isinstance(value, str) or re.fullmatch(r"[\w./:@+-]+", value)
                if plain and (len(told["name"].split()) == 1 or not isinstance(value, str)):
                    found.setdefault(told["name"], value)
    return found


def claims(text: str) -> dict[str, float]:
    """What the log says of its own size: steps, epochs, batch, data set, parameters."""
    found = {}
    for name, pattern in _CLAIMS.items():
        for told in re.finditer(pattern, text, re.IGNORECASE):
            scale = {"M": 1e6, "B": 1e9, "K": 1e3}.get(told[2], 1.0) if told.re.groups > 1 else 1.0
            value = float(told[1].replace(",", "").rstrip(".")) * scale
            if value > 0:  # 0 and -1 stand for what is not limited
                found[name] = value
                break
    return found


def _closed(text: str, start: int, limit: int = 200_000) -> str:
    """From an opening bracket to the one that closes it."""
    depth = 0
    for at in re.finditer(r"[()\[\]{}]", text[start : start + limit]):
        depth += 1 if at.group() in "([{" else -1
        if depth == 0:
            return text[start : start + at.end()]
    return ""


def _parsed(body: str) -> dict[str, object]:
    """The settings of a dump in JSON or as Python prints a dict; none where it is neither."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = _python(body)
    return _flat(value) if isinstance(value, dict) else {}


def _python(text: str) -> object:
    """The value of a literal of Python, or the text itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a lone backslash
        try:
            value: object = ast.literal_eval(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return text
    return value


def _flat(nested: Mapping[object, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _literal(text: str) -> object:
    text = text.strip()
    if text in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[text]
    return _python(text) if _LITERAL.match(text) else text
