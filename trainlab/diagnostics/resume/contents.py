"""The whole content of a checkpoint as plain containers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainlab.errors import NotApplicable
from trainlab.subjects import Checkpoint

__all__ = ["contents"]


def contents(ckpt: Checkpoint) -> Mapping[str, Any]:
    """Reads everything beside the weights: nested dicts and lists of plain values and mapped CPU tensors.

    Empty for a format that holds nothing but weights.

    Raises:
        SubjectError: The file is damaged or holds code.
        NotApplicable: It holds a pickled module.
    """
    if ckpt.format == "pickled module":
        raise NotApplicable(
            f"{ckpt.path} holds a pickled module, which cannot be read without running its code",
            fix="save model.state_dict() and optimizer.state_dict() instead of the objects",
        )
    if ckpt.format not in ("torch", "torch-legacy", "lightning", "huggingface"):
        return {}
    content = ckpt.content()
    return content if isinstance(content, Mapping) else {}
