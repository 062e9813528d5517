"""What the search for all sites costs at about 100 M parameters, and what memory a 7 B-shaped model takes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from trainlab.diagnostics.dtypes.sites import find_sites
from trainlab.visit import call, visit

__all__ = ["memory_at_7b", "share_of_a_forward"]

SEVEN_B = """
import resource, torch
from transformers import LlamaConfig, LlamaForCausalLM
from trainlab.diagnostics.dtypes.sites import find_sites
from trainlab.visit import visit
with torch.device("meta"):
    model = LlamaForCausalLM(LlamaConfig()).eval()
model.model.layers[5].mlp.up_proj.to(torch.half)
batch = {"input_ids": torch.randint(0, 100, (4, 128))}
with visit(model):
    found = find_sites(model, batch)
assert [site.module for site in found.crashes] == ["model.layers.5.mlp.up_proj"], found
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def share_of_a_forward() -> dict[str, float]:
    """Time of `find_sites` over that of a plain forward, the quickest of five each, 4 × 128 tokens."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=10, vocab_size=32_000, n_positions=128, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).eval()
    batch = {"input_ids": torch.randint(0, 100, (4, 128))}
    shares = {}
    for name, change in (
        ("float32", _nothing),
        ("float32, one layer half", _one_half),
        ("bfloat16", _bfloat16),
    ):
        change(model)
        with visit(model):
            if name != "float32, one layer half":
                forward = _quickest(lambda: call(model, batch))
            shares[name] = _quickest(lambda: find_sites(model, batch)) / forward
    return shares


def memory_at_7b() -> float:
    """The most memory that a process takes to check a 7 B-shaped Llama on the meta device, in GB."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SEVEN_B], check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def _quickest(run: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _nothing(model: nn.Module) -> None:
    """The model as it is."""


def _one_half(model: nn.Module) -> None:
    model.get_submodule("transformer.h.3.mlp.c_fc").half()


def _bfloat16(model: nn.Module) -> None:
    model.to(torch.bfloat16)
