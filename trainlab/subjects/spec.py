"""A batch from a few words: ``{x: {shape: [2, 16, 256, 16, 16], dtype: float32}, tau: 0.5}``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import torch

from trainlab.errors import SubjectError, did_you_mean
from trainlab.flow import read_flow

__all__ = ["batch_from_spec", "parse_spec"]

KEYS = ("dtype", "fill", "high", "low", "seed", "shape")
FILLS = ("normal", "ones", "randint", "uniform", "zeros")
DTYPES = (
    "bfloat16", "bool", "complex64", "float16", "float32", "float64", "int16", "int32", "int64", "int8", "uint8",
)  # fmt: skip


def parse_spec(text: str) -> Any:
    """Reads a spec written in YAML's or JSON's flow form; plain values only.

    Raises:
        SubjectError: The text is not YAML.
    """
    try:
        return read_flow(text)
    except ValueError as error:
        raise SubjectError(
            f"the batch is not a spec: {error}", seen=text, fix="e.g. '{x: {shape: [2, 3]}, tau: 0.5}'"
        ) from None


def batch_from_spec(spec: object, where: str = "batch") -> Any:
    """Makes the batch that a spec describes; the same spec gives the same numbers.

    * A mapping with the key ``shape`` is a tensor: ``shape`` (list of ints), ``dtype`` (float32), ``fill``
      (normal, uniform, zeros, ones, randint or a number; normal for floats, randint for the rest), ``low`` and
      ``high`` (uniform: 0 and 1; randint: 0 and, exclusive, 2), ``seed`` (each tensor its own by default).
    * Any other mapping is a dict of specs, a list of numbers a tensor, another list a tuple of specs.
    * Numbers, true, false, null and strings are themselves.

    Raises:
        SubjectError: A key, dtype or fill is not known, or does not go with the others.
    """
    return _made(spec, where, count())


def _made(spec: Any, where: str, seeds: Iterator[int]) -> Any:
    if isinstance(spec, Mapping) and "shape" in spec:
        return _tensor(spec, where, next(seeds))
    if isinstance(spec, Mapping):
        return {key: _made(each, f"{where}.{key}", seeds) for key, each in spec.items()}
    if isinstance(spec, (list, tuple)):
        if _is_numbers(spec):
            try:
                return torch.tensor(spec)
            except (ValueError, TypeError) as error:
                raise SubjectError(
                    f"{where} is no tensor: {error}", seen=str(spec), fix="make its rows equally long"
                ) from None
        return tuple(_made(each, f"{where}[{index}]", seeds) for index, each in enumerate(spec))
    return spec


def _tensor(spec: Mapping[str, Any], where: str, default_seed: int) -> torch.Tensor:
    for key in spec:
        if key not in KEYS:
            raise SubjectError(
                f"{where} has an unknown key {key!r}", seen=str(dict(spec)), fix=did_you_mean(str(key), KEYS)
            )
    shape, name, low, high = (
        spec["shape"],
        str(spec.get("dtype", "float32")).removeprefix("torch."),
        spec.get("low", 0),
        spec.get("high"),
    )
    if not isinstance(shape, (list, tuple)) or not all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape
    ):
        raise SubjectError(
            f"shape of {where} is a list of whole numbers", seen=repr(shape), fix="e.g. shape: [2, 3]"
        )
    if name not in DTYPES:
        raise SubjectError(f"dtype of {where} is not known", seen=name, fix=did_you_mean(name, DTYPES))
    dtype: torch.dtype = getattr(torch, name)
    floats = dtype.is_floating_point or dtype.is_complex
    fill = spec.get("fill", "normal" if floats else "randint")
    if isinstance(fill, str) and fill not in FILLS:
        raise SubjectError(
            f"fill of {where} is not known", seen=fill, fix=f"{did_you_mean(fill, FILLS)} or a number"
        )
    if fill in ("normal", "uniform") and not floats:
        raise SubjectError(
            f"{where} cannot be {fill} in {name}",
            seen=str(dict(spec)),
            fix="fill: randint, with low and high",
        )
    if fill not in ("uniform", "randint") and ("low" in spec or "high" in spec):
        raise SubjectError(
            f"low and high of {where} go with uniform and randint", seen=f"fill: {fill}", fix="fill: uniform"
        )
    random = torch.Generator().manual_seed(int(spec.get("seed", default_seed)))
    try:
        if fill == "normal":
            return torch.randn(shape, generator=random, dtype=dtype)
        if fill == "uniform":
            width = (1 if high is None else high) - low
            return torch.rand(shape, generator=random, dtype=dtype).mul_(width).add_(low)
        if fill == "randint":
            return torch.randint(low, 2 if high is None else high, shape, generator=random).to(dtype)
        return torch.full(shape, {"zeros": 0, "ones": 1}.get(fill, fill), dtype=dtype)
    except (RuntimeError, TypeError, ValueError) as error:
        raise SubjectError(
            f"{where} cannot be made: {str(error).splitlines()[0]}",
            seen=str(dict(spec)),
            fix="change shape, low or high",
        ) from None


def _is_numbers(values: Any) -> bool:
    if isinstance(values, (list, tuple)):
        return bool(values) and all(_is_numbers(each) for each in values)
    return isinstance(values, (bool, int, float))
