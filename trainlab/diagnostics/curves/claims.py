"""What a log and its config claim in numbers, under one name for each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

__all__ = ["ALIASES", "claims"]

# one name -> what projects call it, by the last part of the key
ALIASES: Mapping[str, str] = {
    "total_steps": "total_steps|max_steps|max_iters|train_iters|max_iterations|num_iterations|total_iters|num_train_steps"
    "|max_train_steps|n_steps|max_update|training_steps|num_steps|total_iter",
    "total_epochs": "total_epochs|epochs|num_epochs|max_epochs|n_epochs|max_epoch|num_train_epochs",
    "steps_per_epoch": "steps_per_epoch|iters_per_epoch|batches_per_epoch|num_batches",
    "batch_size": "global_batch_size|batch_size|train_batch_size|total_batch_size",
    "dataset_size": "dataset_size|num_samples|train_size|num_train_examples|n_train|num_examples|train_samples|num_clips",
    "vocab_size": "vocab_size|n_vocab|padded_vocab_size|vocab",
    "classes": "num_classes|nb_classes|n_classes|classes",
    "learning_rate": "learning_rate|lr|max_lr|peak_lr|base_lr",
    "gradient_clip": "grad_clip|clip_grad|max_grad_norm|clip_norm|gradient_clip_val|clip_grad_norm",
    "target_variance": "target_variance|target_var|label_variance",
    "eval_interval": "eval_interval|eval_every|val_interval|eval_steps",
}  # fmt: skip
_PATTERNS = {name: re.compile(rf"(?:{words})$") for name, words in ALIASES.items()}
_RANK = {name: words.split("|") for name, words in ALIASES.items()}


def claims(totals: Mapping[str, float], config: Mapping[str, object]) -> dict[str, float]:
    """Every claim that is known by one of the `ALIASES`, and all totals; a total stands before a setting."""
    found: dict[str, tuple[int, float]] = {}
    for key, value in _numbers(config):
        for name, pattern in _PATTERNS.items():
            if pattern.fullmatch(key):
                rank = _RANK[name].index(key)
                if name not in found or rank < found[name][0]:
                    found[name] = (rank, value)
    return {name: value for name, (_, value) in found.items()} | {
        name: float(value) for name, value in totals.items()
    }


def _numbers(config: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    """Keys without what they are in, ``model.vocab_size`` as ``vocab_size``, and their values that are numbers."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _numbers({str(name): each for name, each in value.items()})
        elif (isinstance(value, (int, float)) and not isinstance(value, bool)) or (
            isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?(e[+-]?\d+)?", value, re.IGNORECASE)
        ):
            yield re.split(r"[./ ]", str(key).lower().replace("-", "_"))[-1], float(value)
