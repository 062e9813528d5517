"""The healthy models: architectures × sizes × seeds, trained for some seconds each; nobody tuned one for a rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.attention_study import nets
from benchmarks.attention_study.tasks import LENGTH, TASKS, WORDS
from trainlab.examples.digits.config import Config
from trainlab.examples.digits.data import draw
from trainlab.examples.digits.run import Run
from trainlab.examples.tiny import CONFIG, blobs

__all__ = ["HALVES", "ZOO", "Clips", "Subject", "Trained"]

HALVES = ("calibration", "held out")
CLIPS_GOOD = 0.4  # share of the variance that a trained digits model explains; much of it is noise


@dataclass(frozen=True)
class Trained:
    """A trained model, a batch that it has not seen, and how well it does there."""

    model: nn.Module
    batch: dict[str, Tensor]
    score: float
    good: float


class Size(NamedTuple):
    width: int
    depth: int
    heads: int
    seed: int


@dataclass(frozen=True)
class Kind:
    """An architecture and what it learns.

    Attributes:
        build: (width, depth, heads) -> the model.
        task: Key of `TASKS`.
        names: What the model calls the task's inputs, where it differs.
        decay: Weight decay.
    """

    name: str
    build: Callable[[int, int, int], nn.Module]
    task: str
    steps: int = 500
    names: tuple[tuple[str, str], ...] = ()
    decay: float = 0.01


@dataclass(frozen=True)
class Subject:
    """One model of the zoo: of the half on which the limits were set, or of the one that was held out."""

    half: str
    kind: Kind
    size: Size

    @property
    def name(self) -> str:
        kind, size = self.kind, self.size
        return f"{kind.name}, {kind.task}, {size.depth} × {size.heads} heads, width {size.width}, seed {size.seed}"

    def train(self) -> Trained:
        """AdamW, one cycle; some seconds on one core."""
        kind, task, rng = self.kind, TASKS[self.kind.task], torch.Generator().manual_seed(self.size.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.size.seed)
            model = kind.build(self.size.width, self.size.depth, self.size.heads)
            optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=kind.decay)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, kind.steps, pct_start=0.1)
            for _ in range(kind.steps):
                batch, wanted = self.draw(32, rng)
                optimizer.zero_grad()
                task.loss(model(**batch), wanted).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            batch, wanted = self.draw(16, torch.Generator().manual_seed(self.size.seed + 1000))
            with torch.no_grad():
                score = task.score(model.eval()(**batch), wanted)
        return Trained(model, batch, score, task.good)

    def draw(self, count: int, rng: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """A batch under the model's own names, and what it should answer."""
        names = dict(self.kind.names)
        batch, wanted = TASKS[self.kind.task].draw(count, rng)
        batch = {names.get(name, name): value for name, value in batch.items()}
        if self.kind.task == "filling" and "input_ids" in batch:
            batch["attention_mask"] = (batch["input_ids"] != 0).long()
        return batch, wanted


@dataclass(frozen=True)
class Clips:
    """The digits example on blobs, divided space-time, with its own training."""

    half: str
    config: Config

    @property
    def name(self) -> str:
        c = self.config
        return f"digits, {c.depth} × {c.heads} heads, {c.frames} frames, time every {c.time_every}, width {c.dim}, seed {c.seed}"

    def train(self) -> Trained:
        run = Run.start(self.config)
        for _ in range(self.config.steps):
            run.step(blobs())
        batch = draw(blobs(), 16, self.config, torch.Generator().manual_seed(99))
        target = batch.pop("target")
        with torch.no_grad():
            score = float(1 - (run.model(**batch) - target).square().mean() / target.var())
        return Trained(run.model.eval(), batch, score, CLIPS_GOOD)


def _text(net: Callable[..., nn.Module], **more: Any) -> Callable[[int, int, int], nn.Module]:
    return partial(net, words=WORDS, length=LENGTH, **more)


def _hugging_face(family: str, name: str, own: Callable[[int, int, int], dict[str, Any]]) -> Callable[[int, int, int], nn.Module]:  # fmt: skip
    def build(width: int, depth: int, heads: int) -> nn.Module:
        import transformers

        sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads, "intermediate_size": 2 * width}  # fmt: skip
        config = getattr(transformers, f"{family}Config")(**sizes | own(width, depth, heads))
        model: nn.Module = getattr(transformers, name)(config)
        return model

    return build


_IMAGE = {"image_size": 16, "patch_size": 4, "num_channels": 1, "num_labels": 10}
_WORDS = {"vocab_size": WORDS, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2}
gpt2 = _hugging_face("GPT2", "GPT2LMHeadModel", lambda *_: _WORDS)
llama = _hugging_face("Llama", "LlamaForCausalLM", lambda w, d, h: _WORDS | {"num_key_value_heads": h // 2})  # noqa: ARG005
bert = _hugging_face("Bert", "BertForMaskedLM", lambda *_: _WORDS)
t5 = _hugging_face("T5", "T5ForConditionalGeneration", lambda w, d, h: {
    "vocab_size": WORDS, "d_model": w, "d_kv": w // h, "d_ff": 2 * w, "num_layers": d, "num_heads": h,
    "decoder_start_token_id": 1,
})  # fmt: skip
vit = _hugging_face("ViT", "ViTForImageClassification", lambda *_: _IMAGE)
dino = _hugging_face("Dinov2WithRegisters", "Dinov2WithRegistersForImageClassification", lambda *_: _IMAGE | {"mlp_ratio": 2})  # fmt: skip

FIRST = (Size(32, 2, 4, 0), Size(48, 3, 4, 1), Size(64, 4, 8, 2))
LATER = (Size(32, 2, 4, 10), Size(48, 3, 4, 11), Size(64, 4, 8, 12))  # seeds drawn when the limits stood
IDS, PAIR, PIXELS = (("ids", "input_ids"),), (("source", "input_ids"), ("target", "decoder_input_ids")), (("images", "pixel_values"),)  # fmt: skip
CALIBRATION: list[tuple[Kind, tuple[Size, ...]]] = [
    (Kind("causal LM", _text(nets.LM), "copying", 900), FIRST),
    (Kind("causal LM", _text(nets.LM), "backcopying", 1200), FIRST),
    (Kind("causal LM, rotary, grouped", _text(nets.LM, rope=True, keys=2), "spelling"), FIRST),
    (Kind("masked encoder, by hand", _text(nets.Masked, by_hand=True), "filling", 900), FIRST),
    (Kind("ViT", nets.SmallViT, "glyphs"), FIRST),
    (Kind("causal LM, q and k normed", _text(nets.LM, norm=True), "copying", 900), FIRST[1:2]),
    # trained longer, until heads are sharp; with the decay of language models
    (Kind("causal LM, rotary, long", _text(nets.LM, rope=True), "copying", 2500), (Size(48, 2, 4, 3),)),
    (Kind("causal LM, long", _text(nets.LM), "backcopying", 2500), (Size(48, 2, 4, 4),)),
    (Kind("causal LM, decay", _text(nets.LM), "spelling", 1500, decay=0.1), (Size(48, 3, 4, 5),)),
]
_set = partial(nets.Classifier, words=WORDS, length=16, classes=WORDS - 4)
_translate = partial(nets.Seq2Seq, words=WORDS, length=12)
HELD_OUT: list[tuple[Kind, tuple[Size, ...]]] = [
    (Kind("torch encoder", _set, "twice", 800), LATER),
    (Kind("torch seq2seq", _translate, "reversing"), LATER[::2]),
    (Kind("torch seq2seq", _translate, "sorting"), LATER[1:2]),
    (Kind("joint space-time", partial(nets.JointVideo, frames=5), "video", 900), LATER),
    (Kind("HF GPT2", gpt2, "spelling", 900, IDS), LATER[:2]),
    (Kind("HF GPT2", gpt2, "backcopying", 900, IDS), LATER[:2]),
    (Kind("HF Llama", llama, "copying", 900, IDS), LATER[1:2]),
    (Kind("HF Llama", llama, "backcopying", 900, IDS), LATER[:2]),
    (Kind("HF Bert", bert, "filling", 900, IDS), LATER[:2]),
    (Kind("HF T5", t5, "sorting", 900, PAIR), LATER[:2]),
    (Kind("HF Llama, long", llama, "copying", 2500, IDS), (Size(48, 2, 4, 13),)),
    (Kind("HF GPT2, long", gpt2, "backcopying", 2500, IDS), (Size(48, 2, 4, 14),)),
    (Kind("torch encoder, decay", _set, "twice", 1500, decay=0.1), (Size(48, 3, 4, 15),)),
    (Kind("HF DINOv2, registers", dino, "glyphs", names=PIXELS), LATER[1:2]),
    (Kind("HF ViT", vit, "glyphs", names=PIXELS), LATER[:1]),
]
_wide = replace(CONFIG, dim=64, depth=4, heads=4, lr=5e-3, steps=400)
_narrow = replace(CONFIG, steps=400)
CLIPS = (
    Clips("calibration", replace(_narrow, seed=0)),
    Clips("calibration", replace(_narrow, frames=8, heads=4, seed=1)),
    Clips("calibration", replace(_wide, time_every=1, seed=2)),
    Clips("held out", replace(_wide, seed=13)),
    Clips("held out", replace(_narrow, frames=12, seed=14)),
    Clips("held out", replace(_wide, depth=3, time_every=1, frames=6, seed=15)),
)
ZOO: list[Subject | Clips] = [
    *(
        Subject(half, kind, size)
        for half, kinds in zip(HALVES, (CALIBRATION, HELD_OUT), strict=True)
        for kind, sizes in kinds
        for size in sizes
    ),
    *CLIPS,
]
