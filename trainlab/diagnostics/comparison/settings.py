"""What was varied between the runs, and which of them repeat one another?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["flat", "group", "kind_of", "varied"]

TELLING = 5  # settings; a log that tells fewer may be silent on the one that was varied
_SEED = re.compile(
    r"(^|[._ /-])((manual|random|rng|global|torch|np|numpy|data)[_-]?)*seed(s|[_-]?(id|num|value))?$",
    re.IGNORECASE,
)
_RECORD = re.compile(
    r"^(epoch|(global_)?step|total_flos|best_(metric|model_checkpoint)|name|id|uuid|hash|group|project|entity|version|tags?|notes?|comment|desc(ription)?|user|argv|args|cmd|command)$"
    r"|(^|[._ /-])((run|exp|experiment|job|slurm|process|trial)[_-]?(id|name)|pid|host(name)?|node(name|list)|port|master_addr"
    r"|time(stamp)?|date|(start|end)(ed)?[_-]?(at|time)|git\w*|commit(_hash)?|wandb\w*|resume\w*|\w*runtime"
    r"|(num|n|total)_?param(eter)?s?|device|cuda\w*|gpu_?ids?|local_rank"
    r"|\w*(log|out|output|save|save_to|work|results?|exp|experiment|ckpt|checkpoint|cache|run|tmp)_?(dir\w*|path|root|folder|file\w*|name))$",
    re.IGNORECASE,
)
_SEED_IN_NAME = re.compile(r"(?:(?<=^)|(?<=[_./ -]))(?:seed|s)[_=-]?\d+(?=$|[_./ -])", re.IGNORECASE)


def kind_of(key: str) -> str:
    """``seed``, ``record`` (names, folders, dates: what trains nothing), or ``setting``."""
    return "seed" if _SEED.search(key) else "record" if _RECORD.search(key) else "setting"


def flat(config: Mapping[str, object]) -> dict[str, str]:
    """The settings as text, those of nested mappings and lists with their names joined by dots; 1e-3 is 0.001."""
    return dict(_leaves(config, ""))


def _leaves(value: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        if set(value) == {"value"} or set(value) == {"desc", "value"}:  # as W&B keeps a setting
            yield from _leaves(value["value"], name)
            return
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(each, Mapping | list | tuple) for each in value):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{name}.{place}")
    else:
        yield name, _text(value)


def _text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, list | tuple):
        return ", ".join(_text(each) for each in value)
    text = str(value).strip()
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", text, re.IGNORECASE):
        number = float(text)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else f"{number:.10g}"
    return text.replace("\n", " ")[:120]


def varied(configs: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """The settings that differ, with their value in each run, empty where it is not told.

    Runs that tell no setting at all do not count.
    """
    told = [config for config in configs if config]
    if not told:
        return {}
    names = dict.fromkeys(name for config in told for name in config)
    # where logs tell mostly the same settings, one that is silent on a setting differs in it
    common = set(told[0]).intersection(*told)
    alike = 2 * len(common) >= max(map(len, told))
    found = {}
    for name in names:
        values = {config.get(name, "") for config in told}
        if len(values) > 1 and (alike or "" not in values):
            found[name] = [config.get(name, "") for config in configs]
    return found


def group(names: Sequence[str], configs: Sequence[Mapping[str, str]]) -> tuple[list[int], list[str]]:
    """Puts runs together that differ in their seed alone; gives the group of each run, and the groups' names.

    Runs that tell their settings (five, or a seed) are together where these are the same; the others where their names
    are the same but for a part such as ``seed1`` or ``s1``.
    """
    differing = [name for name in varied(configs) if kind_of(name) == "setting"]
    keys: list[tuple[str, object, tuple[str, ...]]] = []
    for name, config in zip(names, configs, strict=True):
        bare = _SEED_IN_NAME.sub("", name)
        told = frozenset(each for each in config if kind_of(each) == "setting")
        values = tuple(config.get(each, "") for each in differing)
        if len(config) >= TELLING or len(told) < len(config):
            keys.append(("", told, values))
        elif bare != name:
            keys.append((re.sub(r"[_./ -]+([_./ -])", r"\1", bare).strip("_./ -"), None, values))
        else:
            keys.append((name, name, ()))
    order = list(dict.fromkeys(keys))
    titles = []
    for key in order:
        runs = [name for name, own in zip(names, keys, strict=True) if own == key]
        titles.append(runs[0] if len(runs) == 1 else key[0] or _title(differing, key[2]))
    return [order.index(key) for key in keys], titles


def _title(names: Sequence[str], values: Sequence[str]) -> str:
    said = [f"{name.rsplit('.', 1)[-1]}={value}" for name, value in zip(names, values, strict=True) if value]
    return ", ".join(said) or "same settings"
