"""What a tensor is, as far as its name, shape and dtype tell; and what a project's wrappers add to names."""

from __future__ import annotations

import re

from torch import Tensor

__all__ = ["bare", "group_of", "role_of"]

BUFFERS = re.compile(
    r"(running_(mean|var)|num_batches_tracked|inv_freq|position_ids|masked_bias|freqs(_cis)?|.*mask|sin|cos"
    r"|.*(sin|cos)_cached|relative_position_index|.*anchors?|.*_buffer|.*_queue|queue)"
)
EMBEDDINGS = re.compile(r"(^|[._])(wte|wpe|(tok|pos|word|token|position)_?emb\w*|embed\w*|emb)([._]|$)")
WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def role_of(name: str, tensor: Tensor) -> str:
    """The role of a tensor: see ``WeightsResult.tensor_role``."""
    last = name.rsplit(".", 1)[-1]
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return "integer"
    if BUFFERS.fullmatch(last):
        return "buffer"
    if last.endswith("bias") or re.match(r"bias_|beta$", last):
        return "bias"
    axes = sum(length > 1 for length in tensor.shape)
    if axes >= 2:
        return "embedding" if axes == 2 and EMBEDDINGS.search(name) else "weight"
    return "gain" if tensor.ndim == 1 and last in ("weight", "gamma", "scale", "gain", "g") else "vector"


def group_of(name: str, tensor: Tensor) -> str:
    """What siblings have in common: ``blocks.3.fc.weight`` and ``blocks.7.fc.weight`` are both ``blocks.*.fc.weight 2d``."""
    return f"{re.sub(r'[0-9]+', '*', name)} {tensor.ndim}d"


def bare(name: str) -> str:
    """The name without what torch.compile, FSDP, DataParallel and recomputation put into it."""
    return WRAPPERS.sub("", name)
