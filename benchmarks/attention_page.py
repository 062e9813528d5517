"""How large is the report of a GPT-2-like model of 12 × 12 heads on 512 tokens, and does it show without a network?

Run with ``python -m benchmarks.attention_page``; takes about a minute on one core. The page is run as a person runs it,
by papermill, and saved as a notebook and as HTML. Beside it what bertviz and circuitsvis write for the same weights, where
they are installed: they hold every weight, so they are measured at 128 tokens and multiplied by (512 / 128)².
"""

from __future__ import annotations

import importlib
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainlab.diagnostics.attention.views_of_grid import largest_unshown
from trainlab.report import report

BAR = 3.0  # MB, each of notebook and HTML
TOKENS, FEW = 512, 128
SUBJECT = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel

def model():
    torch.manual_seed(0)
    built = GPT2LMHeadModel(GPT2Config(vocab_size=500, n_positions=512, bos_token_id=0, eos_token_id=0)).eval()
    for block in built.transformer.h:  # as sharp as in a trained model; fresh weights look at all alike
        block.attn.c_attn.weight.data.mul_(6)
    return built

def batch():
    return {"input_ids": torch.randint(0, 500, (1, 512), generator=torch.Generator().manual_seed(0))}
"""
# what a browser would fetch: addresses in attributes and styles, not in prose
FETCHED = re.compile(
    r"""(?:<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*\b(?:src|data)=|<link\b[^>]*\bhref=|"""
    r"""@import|\bimport\b[^;"']*\bfrom|url\()\s*["'(]*(?:url\(["']?)?(?:https?:)?//[^"'\s)>]+""",
    re.IGNORECASE,
)


def bertviz(weights: list[torch.Tensor], tokens: list[str]) -> str:
    """What its model view writes."""
    view = importlib.import_module("bertviz")
    return str(view.model_view(weights, tokens, html_action="return").data)


def circuitsvis(weights: list[torch.Tensor], tokens: list[str]) -> str:
    """What its attention heads write, one picture for each layer."""
    view = importlib.import_module("circuitsvis.attention")
    return "".join(str(view.attention_heads(attention=layer[0], tokens=tokens)) for layer in weights)


def main() -> int:
    """Prints the table; 1 where the page misses the bar."""
    with tempfile.TemporaryDirectory() as folder:
        subject = Path(folder) / "subject.py"
        subject.write_text(SUBJECT)
        page = report(
            "attention",
            {"model": f"{subject}:model", "batch": f"{subject}:batch"},
            out=Path(folder) / "page.ipynb",
            html=True,
            progress=False,
        )
        assert page.html is not None
        texts = {"notebook": page.path.read_text(), "HTML": page.html.read_text()}
    fine = True
    print(f"12 × 12 heads, {TOKENS} tokens        MB   fetched from outside")
    for kind, text in texts.items():
        size, outside = len(text.encode()) / 1e6, FETCHED.findall(text.replace('\\"', '"'))
        fine &= size <= BAR and not outside
        print(f"trainlab report, {kind:<9} {size:10.2f}   {', '.join(outside) or 'nothing'}")
    for peer in (bertviz, circuitsvis):
        print(f"{peer.__name__:<26} {_peer(peer)}")
    print(largest_unshown(page.examinations[0].result))
    return 0 if fine else 1


def _peer(write: Callable[[list[torch.Tensor], list[str]], str]) -> str:
    """Its megabytes, and what its page fetches."""
    weights: list[Any] = [torch.rand(1, 12, FEW, FEW).softmax(-1) for _ in range(12)]
    try:
        text = write(weights, ["word"] * FEW)
    except ImportError as error:
        return f"{'–':>10}   {error}"
    size = len(text.encode()) * (TOKENS / FEW) ** 2 / 1e6
    return f"{size:10.0f}   {', '.join(sorted(set(FETCHED.findall(text)))[:3]) or 'nothing'}"


if __name__ == "__main__":
    sys.exit(main())
