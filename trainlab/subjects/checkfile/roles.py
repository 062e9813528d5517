"""Which part of a checkpoint is what: the weights, the config, the optimizer, the scheduler, the counters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainlab.subjects.checkfile.plain import Object
from trainlab.subjects.checkfile.tensors import TensorInfo

__all__ = [
    "CONFIGS", "NOT_WEIGHTS", "ORDER", "OptimizerInfo", "SchedulerInfo", "config_of", "optimizers_of", "rank", "scalars_of",
    "schedulers_of", "weights_of",
]  # fmt: skip

CONFIGS = (
    "config", "cfg", "model_config", "model_args", "hyper_parameters", "hparams", "args", "opt", "training_args",
)  # fmt: skip
# where several sets of weights lie in one checkpoint: what was trained before what was averaged from it, the student
# before its teacher
ORDER = (
    "model", "state_dict", "model_state_dict", "model_state", "module", "net", "network", "generator", "student", "weights",
    "params", "ema", "model_ema", "ema_model", "ema_state_dict", "teacher",
)  # fmt: skip
NOT_WEIGHTS = re.compile(
    r"optim|sched|rng|random|scaler|loader|sampler|callbacks|loops|metadata", re.IGNORECASE
)
NESTED = 4
Read = Callable[[TensorInfo], Any]  # the value of a tensor of one element

# of the settings that torch.optim's classes keep in param_groups, those that no other class has, first match first
_OPTIMIZERS = {
    "betas decoupled_weight_decay": "Adam", "ns_steps": "Muon", "history_size tolerance_grad": "LBFGS",
    "momentum dampening nesterov": "SGD", "alpha centered": "RMSprop", "scale_parameter relative_step": "Adafactor",
    "beta2_decay d": "Adafactor", "betas momentum_decay": "NAdam", "rho": "Adadelta",
    "lr_decay initial_accumulator_value": "Adagrad", "lambd t0": "ASGD", "etas step_sizes": "Rprop",
    "betas amsgrad": "Adam", "betas eps": "Adam-like", "betas": "Lion",
}  # fmt: skip
_SCHEDULERS = (
    ("T_mult", "CosineAnnealingWarmRestarts"), ("T_max", "CosineAnnealingLR"), ("total_steps", "OneCycleLR"),
    ("patience", "ReduceLROnPlateau"), ("milestones", "MultiStepLR"), ("step_size", "StepLR"), ("lr_lambdas", "LambdaLR"),
    ("_milestones", "SequentialLR"), ("_schedulers", "ChainedScheduler"), ("end_factor", "LinearLR"), ("power", "PolynomialLR"),
    ("total_iters", "ConstantLR"), ("gamma", "ExponentialLR"), ("max_lrs", "CyclicLR"),
)  # fmt: skip


@dataclass(frozen=True)
class OptimizerInfo:
    """What an optimizer's state dict says.

    Attributes:
        name: Its path in the file.
        kind: A guess by its settings: ``AdamW``, ``SGD``.
        groups: The settings of each group; ``params`` is how many parameters it has.
        lr: The learning rate of each group.
        steps: The smallest and the largest step count of any parameter; None where it keeps none.
        tensors: How many tensors of state it holds.
        nbytes: Their bytes.
        states: What is kept for a parameter: ``("step", "exp_avg", "exp_avg_sq")``.
        missing: Parameters of its groups that have no state.
    """

    name: str
    kind: str
    groups: tuple[Mapping[str, Any], ...]
    lr: tuple[float, ...]
    steps: tuple[float, float] | None
    tensors: int
    nbytes: int
    states: tuple[str, ...]
    missing: int


@dataclass(frozen=True)
class SchedulerInfo:
    """What a scheduler's state dict says: a guess of its kind, its last epoch and last learning rates."""

    name: str
    kind: str
    last_epoch: int | None
    last_lr: tuple[float, ...]
    state: Mapping[str, Any] = field(repr=False)


def rank(name: str) -> tuple[int, int]:
    """Where a set of weights comes among several: earlier in `ORDER` first, then what lies less deep."""
    known = [ORDER.index(part) for part in name.split(".") if part in ORDER]
    return min(known, default=len(ORDER)), name.count(".")


def weights_of(tree: Any) -> dict[str, list[TensorInfo]]:
    """The sets of weights in a checkpoint: their path, and their tensors.

    A set is a dict of nothing but tensors, or a whole module; optimizers and generators' states are left out.
    """
    return {name: found for name, found in _sets(tree, "", set()) if found}


def config_of(tree: Any) -> Mapping[str, Any] | None:
    """The stored config: the first of `CONFIGS` that holds names and values."""
    if not isinstance(tree, Mapping):
        return None
    if isinstance(tree, Object) and "args" not in tree and next(_inside(tree), None) is None:
        return tree  # training_args.bin is nothing but a config
    found = (tree[name] for name in CONFIGS if name in tree)
    return next((each for each in found if isinstance(each, Mapping) and each), None)


def scalars_of(tree: Any, read: Read) -> dict[str, Any]:
    """The plain values beside the weights: iter, epoch, best loss; tensors of one element are read."""
    if not isinstance(tree, Mapping):
        return {}
    found = {str(name): value for name, value in tree.items() if isinstance(value, (bool, int, float, str))}
    if not _is_weights(tree):
        tensors = {str(name): each for name, each in tree.items() if isinstance(each, TensorInfo)}
        found |= {name: read(each) for name, each in tensors.items() if each.shape == ()}
    return found


def optimizers_of(tree: Any, read: Read) -> list[OptimizerInfo]:
    """Every optimizer's state: a dict with ``state`` and ``param_groups``."""

    def fits(value: Mapping[Any, Any]) -> bool:
        return "param_groups" in value and isinstance(value.get("state"), Mapping)

    return [_optimizer(name, value, read) for name, value in _matching(tree, "", fits, set())]


def schedulers_of(tree: Any) -> list[SchedulerInfo]:
    """Every scheduler's state: a dict with ``last_epoch`` and learning rates."""
    signs = {"_last_lr", "base_lrs", "_step_count", "patience", "_schedulers"}

    def fits(value: Mapping[Any, Any]) -> bool:
        return "last_epoch" in value and not signs.isdisjoint(value)

    return [_scheduler(name, value) for name, value in _matching(tree, "", fits, set())]


# Each walk goes into a container once: a small pickle can nest one list in another so that there are 10**100 ways through.


def _sets(value: Any, name: str, seen: set[int]) -> Iterator[tuple[str, list[TensorInfo]]]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Object) and "_modules" in value:
        yield name, list(_inside(value))
    elif _is_weights(value):
        yield name, [each for each in value.values() if isinstance(each, TensorInfo)]
    elif isinstance(value, Mapping):
        inner = [
            found
            for key, each in value.items()
            if name.count(".") < NESTED and not NOT_WEIGHTS.search(str(key)) and isinstance(each, Mapping)
            for found in _sets(each, f"{name}.{key}" if name else str(key), seen)
        ]
        yield from inner
        loose = [each for each in value.values() if isinstance(each, TensorInfo) and each.shape]
        if not inner and not name and loose:
            yield "", loose


def _is_weights(value: Any) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    return any(isinstance(each, TensorInfo) for each in value.values()) and all(
        isinstance(each, TensorInfo) or str(key).endswith("_extra_state") or key == "__metadata__"
        for key, each in value.items()
    )


def _inside(value: Any, seen: set[int] | None = None) -> Iterator[TensorInfo]:
    if isinstance(value, TensorInfo):
        yield value
        return
    seen = set() if seen is None else seen
    if isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
        seen.add(id(value))
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _inside(each, seen)


def _matching(
    value: Any, name: str, fits: Callable[[Mapping[Any, Any]], bool], seen: set[int]
) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    if id(value) in seen or name.count(".") > NESTED or not isinstance(value, (Mapping, list, tuple)):
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        if fits(value):
            yield name, value
        elif not _is_weights(value):
            for key, each in value.items():
                yield from _matching(each, f"{name}.{key}" if name else str(key), fits, seen)
    elif len(value) < 100:
        for number, each in enumerate(value):
            yield from _matching(each, f"{name}.{number}", fits, seen)


def _optimizer(name: str, value: Mapping[str, Any], read: Read) -> OptimizerInfo:
    groups = [each for each in _listed(value["param_groups"]) if isinstance(each, Mapping)]
    entries = [each for each in value["state"].values() if isinstance(each, Mapping)]
    steps = [_count(each["step"], read) for each in (*entries, *groups) if "step" in each]
    counted = [each for each in steps if each is not None]
    rates = [_count(each.get("lr"), read) for each in groups]
    tensors = list(_inside(value["state"]))
    params = [len(_listed(each.get("params"))) for each in groups]
    return OptimizerInfo(
        name,
        _kind(groups, entries),
        tuple(
            {**each, "params": count} if "params" in each else each
            for each, count in zip(groups, params, strict=True)
        ),
        tuple(each for each in rates if each is not None),
        (min(counted), max(counted)) if counted else None,
        len(tensors),
        sum(each.nbytes for each in tensors),
        tuple(dict.fromkeys(str(key) for each in entries[:50] for key in each)),
        max(sum(params) - len(entries), 0),
    )


def _kind(groups: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]) -> str:
    keys = set(groups[0]) if groups else set()
    kind = next((name for wanted, name in _OPTIMIZERS.items() if keys.issuperset(wanted.split())), "unknown")
    kept = entries[0] if entries else {}
    if kind == "Adam" and groups[0].get("decoupled_weight_decay", groups[0].get("weight_decay")):
        return "AdamW"
    if kind == "Adam-like" and "exp_avg_sq" in kept:
        return "AdamW"
    return "Adamax" if kind == "Adam" and "exp_inf" in kept else kind


def _scheduler(name: str, value: Mapping[str, Any]) -> SchedulerInfo:
    kind = next((kind for key, kind in _SCHEDULERS if key in value), "unknown")
    epoch = value["last_epoch"]
    rates = tuple(each for each in _listed(value.get("_last_lr")) if isinstance(each, (int, float)))
    return SchedulerInfo(name, kind, epoch if isinstance(epoch, int) else None, rates, value)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _count(value: Any, read: Read) -> float | None:
    if isinstance(value, TensorInfo):
        value = read(value)
    return value if isinstance(value, (int, float)) else None
