"""What a quantity of a log is, told from its name alone: its split, its role, and which loss is the main one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

__all__ = [
    "ROLES",
    "best_loss",
    "full_name",
    "is_epoch",
    "is_step",
    "is_time",
    "known",
    "role_of",
    "split_of",
    "words",
]

ROLES = (
    "loss",
    "learning_rate",
    "gradient_norm",
    "perplexity",
    "throughput",
    "time",
    "weight",
    "scale",
    "metric",
)
SPLITS = {
    "train": "train", "training": "train", "trn": "train", "tr": "train", "trl": "train", "learn": "train",
    "val": "val", "valid": "val", "validation": "val", "eval": "val", "evaluation": "val", "validate": "val", "dev": "val", "cv": "val",
    "tel": "val", "vl": "val", "test": "test", "testing": "test", "holdout": "test", "heldout": "val",
}  # fmt: skip
STEPS = [
    "global step",
    "global steps",
    "num updates",
    "num timesteps",
    "total timesteps",
    "timesteps",
    "timesteps total",
    "current steps",
    "current step",
    "training iteration",
    "total steps",
    "total env steps",
    "total env interacts",
    "env steps",
    "trainer/global step",
    "gradient steps",
    "updates",
    "update",
    "optimizer step",
    "train step",
    "current iteration",
    "learning iteration",
    "curr iter",
    "iteration",
    "iterations",
    "iters",
    "iter",
    "steps",
    "step",
    "s",
    "it",
    "itr",
    "batch idx",
    "batch",
    "minibatch",
    "mb",
    "i",
]
EPOCHS = ("epoch", "epochs", "ep", "training epoch", "current epoch", "trainer/epoch", "round", "e")
_LOSS = re.compile(
    r"\b(loss(es)?|nll|bce|mse|l1|l2|learn|logloss|cross entropy|xent|entropy loss|elbo|objective|(?<!batch )(?<!data )(?<!reader )cost|criterion|neg log likelihood|bpc|bpb|bpt"
    r"|trl|tel|logloss|rmse|mae|hinge|kld?|vlb|denoising|reconstruction|recon)\b|loss$|^loss|^l (?!r\b)\w+"
    r"|^(d|g|cycle|idt|rec|vgg|feat|kl|adv|gan|nce)( (a|b|real|fake|gan|l1|vgg|feat|y))+$|^(total|kd|lm|mlm|feat|feature|attn|attention|distill|distillation)$|^(errd|errg|lossd|lossg|d loss|g loss)$"
)
_GRADIENT = re.compile(
    r"\b(grad(ient)?s?( total)?( l?2?)? ?norms?|gnorm|gradnorm|grad l2)\b|^(train )?(total )?norm$"
)
_RATE = re.compile(r"^lr$|\blr\b|learning rate|\blr[ -]?\d|^lr |learningrate")
_PERPLEXITY = re.compile(r"\b(ppl|perplexity|perp)\b|ppl$|perplexity$")
_THROUGHPUT = re.compile(
    r"(/ ?(s|sec|second)$)|\b(per sec(ond)?|per s|throughput|wps|ups|wpb|fps|sps|mfu|hfu|tflops?|flops|img ?s|tok ?s|toks"
    r"|tgs|ips|speed|samples s|tokens s|it s)\b"
)
_TIME = re.compile(
    r"\b((batch|data|reader) cost|time|elapsed|eta|duration|seconds|secs|msecs?|ms|dt|runtime|wall|train wall|step avg|latency|hours|minutes"
    r"|data|batch time|forward|backward|remaining)\b|time$"
)
_SCALE = re.compile(r"\b(loss scale|grad scale|scaler?|loss scaler)\b")
_WEIGHT = re.compile(r"\b(weight|weights|coef|coeff|lambda|beta|alpha|ratio)\b$")
_METRIC = re.compile(
    r"\b(acc(uracy)?|acc ?\d|top ?\d|prec(ision)?|recall|f ?1|auc|auroc|map|m?ap ?\d*|miou|iou|dice|psnr|ssim|fid|bleu|rouge"
    r"|wer|cer|reward|return|score|err(or)?|mfu|srcc|plcc|ndcg|mrr|hits?|kappa|mcc|r2|rew mean|ep rew mean|success|entropy)\b"
    r"|acc$|acc@|accuracy$"
)
# the names that a project gives its training loss, the plainest first
_MAIN = ("loss", "total loss", "lm loss", "train loss", "training loss", "trl", "loss total", "loss mean", "mse loss mean",
         "train loss step", "train total loss", "nll loss", "avg loss", "average loss", "learn", "total")  # fmt: skip


@lru_cache(maxsize=4096)
def words(name: str) -> str:
    """The name as plain lower-case words: ``train/loss_CE`` is ``train loss ce``."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)
    return re.sub(r"[\s_\-./|:()\[\]]+", " ", spaced).strip().lower()


@lru_cache(maxsize=4096)
def split_of(name: str) -> str:
    """``train``, ``val`` or ``test`` where a word of the name says so, else ""."""
    plain = words(name).replace("held out", "heldout")
    said = [SPLITS[word] for word in re.split(r"[^a-z]+", plain) if word in SPLITS]
    return said[0] if said else ""


def full_name(name: str, split: str) -> str:
    """The name of a series: prefixed with its split where only the context told it."""
    return f"{split}/{name}" if split and split != "train" and not split_of(name) else name


@lru_cache(maxsize=4096)
def role_of(name: str) -> str:
    """One of `ROLES`, decided from the name; ``metric`` where nothing is known of it."""
    plain = words(name)
    if _PERPLEXITY.search(plain):
        return "perplexity"
    if _SCALE.search(plain):
        return "scale"
    if _GRADIENT.search(plain):
        return "gradient_norm"
    if _RATE.search(plain):
        return "learning_rate"
    if _THROUGHPUT.search(name.lower()) or _THROUGHPUT.search(plain):
        return "throughput"
    if _WEIGHT.search(plain):
        return "weight"
    if _LOSS.search(plain) and not re.search(r"\b(nan|inf|skipped|time)\b", plain):
        return "loss"
    if _TIME.search(plain):
        return "time"
    return "metric"


def known(name: str) -> bool:
    """Does the name say by itself that it is a quantity of training?"""
    role = role_of(name)
    return role not in ("metric", "time", "weight") or bool(_METRIC.search(words(name)))


def is_step(name: str) -> bool:
    """Does the name count optimizer steps, iterations or batches?"""
    return words(name) in STEPS


def is_epoch(name: str) -> bool:
    """Does the name count epochs?"""
    return words(name) in EPOCHS


def is_time(name: str) -> bool:
    """Does the name tell the time since the run began?"""
    return words(name) in (
        "elapsed", "elapsed time", "time elapsed", "train time", "total time", "wall", "wall time", "wall clock",
        "time/time elapsed", "time total s", "relative time", "runtime", "timestamp", "train wall", "total elapsed",
    )  # fmt: skip


def best_loss(named: Iterable[tuple[str, str, int]], splits: tuple[str, ...]) -> int | None:
    """Which series is the main loss of the given splits: its index, or None.

    Args:
        named: Name, split and number of points of each series.
        splits: The splits that may be chosen.
    """
    ranked = []
    for index, (name, split, count) in enumerate(named):
        if split not in splits or role_of(name) != "loss" or not count:
            continue
        plain = re.sub(r"^(val|valid|validation|eval|test|dev|train|training) ", "", words(name))
        place = _MAIN.index(plain) if plain in _MAIN else len(_MAIN) + ("loss" not in plain)
        ranked.append((place, -count, index))
    return min(ranked)[2] if ranked else None
