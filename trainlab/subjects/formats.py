"""The formats beside torch.save: safetensors, Hugging Face folders, exported programs and TorchScript."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainlab.errors import MissingExtraError, SubjectError
from trainlab.subjects.checkfile.sniff import SUFFIXES
from trainlab.subjects.checkpoint import Checkpoint, load_file, outline
from trainlab.subjects.contents import Weights

if TYPE_CHECKING:
    import torch

__all__ = ["load_safetensors", "open_exported", "open_folder", "open_safetensors", "open_torchscript"]

FOLDER_WEIGHTS = (
    "model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin",
)  # fmt: skip

# What Hugging Face's Trainer (.pt, .pth) and accelerate's save_state (.bin, .pkl) put beside the weights; of files
# that each process wrote, the first.
BESIDE = {
    "optimizer": ("optimizer.pt", "optimizer.bin"),
    "scheduler": ("scheduler.pt", "scheduler.bin"),
    "scaler": ("scaler.pt",),
    "sampler": ("sampler*.bin",),
    "rng_state": ("rng_state*.pth", "random_states_*.pkl"),
}


def load_safetensors(path: Path) -> tuple[Weights, dict[str, str]]:
    """The tensors of a .safetensors file, mapped, and its header's own texts."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise SubjectError(
            f"{path} is damaged: {error}",
            seen=f"{path.stat().st_size} bytes",
            fix="its writing or copying was interrupted; copy it again",
        ) from error


def open_safetensors(path: Path) -> Checkpoint:
    """Opens a .safetensors file; ``config.json`` beside it is its config."""
    weights, header = load_safetensors(path)
    config = _json(path.parent / "config.json")
    return Checkpoint(path, "safetensors", "", config, header, outline(weights), {}, lambda: weights)


def open_folder(folder: Path, *, trust: bool = False) -> Checkpoint:
    """Opens a folder in Hugging Face's form: weights, whole or in shards, and ``config.json``.

    Raises:
        SubjectError: The folder holds no such weights; the error names the checkpoints that it does hold.
    """
    found = next((folder / name for name in FOLDER_WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise _no_weights(folder)
    config = _json(folder / "config.json")
    weights: Weights = {}
    for file in _shards(found):
        weights |= (
            load_safetensors(file)[0] if file.suffix == ".safetensors" else load_file(file, trust=trust)
        )
    describes = config is not None and "model_type" in config
    return Checkpoint(
        folder,
        "huggingface",
        "",
        config,
        {name: config[name] for name in ("model_type", "transformers_version") if config and name in config},
        outline(weights),
        {},
        lambda: weights,
        (lambda: _pretrained(folder, trust=trust)) if describes else None,
        (lambda: _untrained(folder, trust=trust)) if describes else None,
        lambda: _beside_weights(folder, trust=trust),
    )


def open_exported(path: Path, *, trust: bool) -> Checkpoint:
    """Opens a torch.export archive; its weights are read without opening the program.

    torch.export.load unpickles sample inputs and evaluates expressions from the file, so the program is opened
    only with ``trust=True``.
    """
    weights: Weights = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("_weights_config.json"):
                folder = name.rpartition("/")[0]
                for each, entry in json.loads(archive.read(name))["config"].items():
                    weights[each] = _exported_weight(archive.read(f"{folder}/{entry['path_name']}"), entry)

    def program() -> torch.nn.Module:
        import torch

        if not trust:
            raise SubjectError(
                f"{path} is an exported program, and opening one runs code that the file holds",
                fix="if you trust the file, trust=True opens it; model='package.module:callable' takes only its weights",
            )
        return torch.export.load(path).module()

    return Checkpoint(path, "torch.export", "", None, {}, outline(weights), {}, lambda: weights, program)


def open_torchscript(path: Path) -> Checkpoint:
    """Opens a TorchScript archive. Its program runs in TorchScript's own interpreter, which has no Python."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module: torch.nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise SubjectError(
            f"{path} cannot be opened as TorchScript",
            seen=str(error).strip().splitlines()[-1],
            fix="export it again with torch.export",
        ) from error
    weights: Weights = module.state_dict()
    return Checkpoint(
        path,
        "torchscript",
        "",
        None,
        {},
        outline(weights),
        {},
        lambda: weights,
        lambda: module,
    )


def _beside_weights(folder: Path, *, trust: bool) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, patterns in BESIDE.items():
        files = sorted(file for pattern in patterns for file in folder.glob(pattern))
        if files:
            content[name] = load_file(files[0], trust=trust)
    state = _json(folder / "trainer_state.json")
    return content | ({"trainer_state": state} if state is not None else {})


def _exported_weight(raw: bytes, entry: Mapping[str, Any]) -> torch.Tensor:
    import torch

    if entry["use_pickle"]:
        tensor: torch.Tensor = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        return tensor
    meta = entry["tensor_meta"]
    flat = torch.frombuffer(bytearray(raw), dtype=_exported_dtype(meta["dtype"])) if raw else torch.empty(0)
    sizes, strides = ([each["as_int"] for each in meta[name]] for name in ("sizes", "strides"))
    return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"])


def _exported_dtype(number: int) -> torch.dtype:
    from torch._export.serde.serialize import _SERIALIZE_TO_TORCH_DTYPE

    dtype: torch.dtype = _SERIALIZE_TO_TORCH_DTYPE[number]
    return dtype


def _shards(found: Path) -> list[Path]:
    if found.suffix != ".json":
        return [found]
    names = sorted(set((_json(found) or {}).get("weight_map", {}).values()))
    missing = [name for name in names if not (found.parent / name).is_file()]
    if missing or not names:
        raise SubjectError(
            f"{found.parent} lacks {len(missing)} of its {len(names)} weight files",
            seen=f"{found.name} names {', '.join(missing[:4])}",
            fix="copy or download the folder again",
        )
    return [found.parent / name for name in names]


def _json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SubjectError(f"{file} is not JSON: {error}", fix="copy or download it again") from None
    return content if isinstance(content, dict) else None


def _no_weights(folder: Path) -> SubjectError:
    if (folder / ".metadata").is_file():
        return SubjectError(
            f"{folder} is a torch.distributed checkpoint",
            fix=f"make it one file: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} {folder}.pt",
        )
    files = sorted(
        (each for each in folder.iterdir() if each.suffix in SUFFIXES),
        key=lambda each: (each.stat().st_mtime, each.name),
    )
    if files:
        return SubjectError(
            f"{folder} is a folder of checkpoints; which one?",
            seen=", ".join(each.name for each in files[-8:]),
            fix=f"give one of them; the newest is {files[-1]}",
        )
    names = sorted(each.name for each in folder.iterdir())
    seen = f"{len(names)} files: {', '.join(names[:5])}" if names else "it is empty"
    return SubjectError(
        f"{folder} is a folder without weights",
        seen=seen,
        fix=f"a Hugging Face folder holds config.json and {FOLDER_WEIGHTS[1]}; otherwise give the file",
    )


def _architecture(folder: Path, *, trust: bool) -> tuple[Any, Any]:
    """The class that config.json names under "architectures", with its head, or AutoModel; and the config."""
    try:
        import transformers
    except ImportError:
        purpose = f"the Hugging Face model in {folder}"
        raise MissingExtraError("transformers", extra="huggingface", purpose=purpose) from None
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=trust, local_files_only=True
        )
        named = [getattr(transformers, name, None) for name in config.architectures or ()]
    except (ImportError, OSError, ValueError, KeyError) as error:
        reason = f"{error.__cause__ or error}".split("\n")[0]
        raise SubjectError(
            f"transformers cannot open {folder}: {reason}",
            fix="a model with its own code needs trust=True; otherwise see that transformers itself imports",
        ) from error
    return named[0] if named and named[0] else transformers.AutoModel, config


def _pretrained(folder: Path, *, trust: bool) -> torch.nn.Module:
    kind, _ = _architecture(folder, trust=trust)
    options = {"local_files_only": True, "output_loading_info": True}
    if kind.__name__ == "AutoModel":
        options["trust_remote_code"] = trust
    try:
        model, info = kind.from_pretrained(folder, **options)
    except (RuntimeError, OSError, ValueError) as error:
        raise SubjectError(
            f"transformers cannot load {folder}: {error}", fix="see that config.json belongs to the weights"
        ) from error
    lacking = sorted(info["missing_keys"])
    if lacking:
        raise SubjectError(
            f"{folder} lacks {len(lacking)} tensors of {kind.__name__}, which would be random",
            seen=", ".join(lacking[:8]),
            fix="name under 'architectures' in config.json the class whose weights were saved",
        )
    loaded: torch.nn.Module = model
    return loaded


def _untrained(folder: Path, *, trust: bool) -> torch.nn.Module:
    kind, config = _architecture(folder, trust=trust)
    model: torch.nn.Module = (
        kind.from_config(config, trust_remote_code=trust) if kind.__name__ == "AutoModel" else kind(config)
    )
    return model
