"""What "as found" means, and the models it is tried on."""

from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

# --- as found


class Is:
    """Equal to nothing but the very same object; keeps it alive, so that its address is not used again."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value is other.value

    def __hash__(self):
        return id(self.value)


def _bits(tensor):
    """The raw bytes beneath, so that NaN equals itself and -0.0 differs from 0.0."""
    if tensor.is_meta:
        return b""
    storage = (tensor.to_dense() if tensor.is_sparse else tensor.detach()).untyped_storage()
    return torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tobytes()


def _tensors_of(module):
    if isinstance(module, torch.jit.ScriptModule):
        return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    dicts = [vars(module), *(value for value in vars(module).values() if isinstance(value, dict))]
    return [(k, v) for held in dicts for k, v in held.items() if isinstance(v, torch.Tensor)]


def _state_of(tensor):
    grad = tensor.grad if tensor.is_leaf else None
    grad_bits = None if grad is None else _bits(grad)
    place = None if tensor.is_sparse else (tensor.stride(), tensor.data_ptr())
    autograd = (tensor.requires_grad, tensor.is_leaf, Is(grad), grad_bits)
    return (Is(tensor), tensor.shape, tensor.dtype, place, _bits(tensor), autograd)


def _portrait(model):
    seen = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            contents = list(value.items()) if isinstance(value, dict) else value
            inside = contents if isinstance(contents, list | set) else ()
            pairs = [Is(part) for item in inside for part in (item if isinstance(value, dict) else [item])]
            seen[name, key] = (Is(value), pairs)
        seen[name, "mode"] = getattr(module, "training", None)
        seen[name, "tensors"] = [(key, _state_of(tensor)) for key, tensor in _tensors_of(module)]
    drawn = np.random.get_state()  # noqa: NPY002
    seen["streams"] = (random.getstate(), drawn[1].tobytes(), drawn[2:], _bits(torch.get_rng_state()))
    seen["autocast"] = [(torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in ("cpu", "cuda")]
    seen["modes"] = (torch.is_grad_enabled(), torch.is_autocast_cache_enabled())
    return seen


def _unsettle(model):
    """Mixed modes, one frozen tensor, gradients on some: the state that a careless visit would level."""
    for i, module in enumerate(model.modules()):
        if hasattr(module, "training"):
            module.training = i % 2 == 0
    for i, parameter in enumerate(model.parameters()):
        if i % 3 == 0 and parameter.is_leaf and parameter.is_floating_point():
            parameter.requires_grad_(False)
        elif i % 3 == 1 and parameter.is_leaf and not parameter.is_meta:
            parameter.grad = torch.randn_like(parameter)
    return model


# --- models


class Hostile(nn.Module):
    """Does to itself, and to the process, all that a forward should not."""

    def __init__(self, *, raises=True):
        super().__init__()
        self.raises = raises
        self.lin = nn.Linear(4, 4)
        self.gone = nn.Linear(4, 4)
        self.register_buffer("ema", torch.zeros(4))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.plain = torch.zeros(3)
        self.calls = 0
        self.history = []
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, x):
        self.calls += 1
        self.history.append(x)
        self.late = x
        with torch.no_grad():
            self.lin.weight.add_(1)
            self.plain.add_(1)
            self.steps.add_(1)
        self.lin.bias.data.mul_(-1)  # no version counter sees this
        self.lin.bias.data = torch.ones(4)
        self.ema = self.ema + x.mean()
        if hasattr(self, "gone"):
            self.gone.weight = nn.Parameter(torch.ones(4, 4))
            del self.gone
        self.extra = nn.Linear(2, 2)
        self.train(not self.training)
        self.lin.requires_grad_(not self.lin.weight.requires_grad)
        self.lin.weight.grad = torch.ones(4, 4)
        self.register_forward_hook(lambda *_: None, always_call=True)
        self.lin.register_forward_pre_hook(lambda *_: None, with_kwargs=True)
        self.register_full_backward_hook(lambda *_: None)
        torch.rand(3, generator=self.generator)
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        torch.set_grad_enabled(not torch.is_grad_enabled())
        torch.set_autocast_enabled("cpu", enabled=True)
        torch.set_autocast_dtype("cpu", torch.float16)
        torch.set_autocast_cache_enabled(False)
        if self.raises:
            raise ZeroDivisionError("the model's own")
        return x


def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model, torch.randn(2, 4)


def convnet():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(2)
    ), torch.randn(4, 3, 8, 8)


def shaped(model, batch):
    with torch.no_grad():
        model(batch)
    return model, batch


def half_frozen_int8():
    class Quantized(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)
            self.register_buffer("adjacency", torch.eye(4).to_sparse())

        def forward(self, x):
            return x @ (self.weight.float() * 0.1) + torch.sparse.mm(self.adjacency, x)

    return Quantized(), torch.randn(4, 4)


def inference_tensors():
    with torch.inference_mode():
        return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), torch.randn(3, 4)


def transformer():
    torch_model = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)
    return torch_model, (torch.randn(2, 5, 16), torch.randn(2, 3, 16))


def encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.TransformerEncoder(layer, 2), torch.randn(2, 5, 16)


def old_style(norm):
    return nn.Sequential(norm(nn.Linear(4, 4)), nn.Dropout()), torch.randn(2, 4)


MODELS = {
    "mlp": lambda: (nn.Sequential(nn.Linear(4, 4), nn.Dropout()), torch.randn(2, 4)),
    "tied": tied,
    "convnet": lambda: shaped(*convnet()),
    "lstm": lambda: (nn.LSTM(4, 5, 2, dropout=0.3, bidirectional=True), torch.randn(3, 2, 4)),
    "encoder": encoder,
    "transformer": transformer,
    "spectral": lambda: (nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 4))), torch.randn(2, 4)),
    "weight_norm": lambda: (nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4))), torch.randn(2, 4)),
    "old_spectral": lambda: old_style(nn.utils.spectral_norm),
    "old_weight_norm": lambda: old_style(nn.utils.weight_norm),
    "max_norm": lambda: (nn.Embedding(9, 4, max_norm=0.1), torch.arange(9)),
    "int8": half_frozen_int8,
    "inference": inference_tensors,
    "meta": lambda: (nn.Linear(4, 4, device="meta"), torch.empty(2, 4, device="meta")),
    "data_parallel": lambda: (
        nn.DataParallel(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))),
        torch.randn(3, 4),
    ),
    "complex": lambda: (nn.Linear(4, 4, dtype=torch.cfloat), torch.randn(2, 4, dtype=torch.cfloat)),
    "empty": lambda: (nn.Identity(), torch.randn(2)),
}
SMALL = {
    "BertModel": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    },
    "GPT2Model": {"n_embd": 16, "n_layer": 1, "n_head": 2},
    "T5Model": {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
    "ViTModel": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    },
}


def _hugging_face(name):
    transformers = pytest.importorskip("transformers")
    with suppress(ImportError):  # it loads a model's code on first use, and that may want what is not there
        made, config = getattr(transformers, name), getattr(transformers, name.replace("Model", "Config"))
        if name == "ViTModel":
            return made(config(**SMALL[name], image_size=8, patch_size=4)), {
                "pixel_values": torch.randn(2, 3, 8, 8)
            }
        ids = torch.randint(0, 50, (2, 6))
        batch = {"input_ids": ids, "decoder_input_ids": ids} if name == "T5Model" else {"input_ids": ids}
        return made(config(**SMALL[name], vocab_size=50)), batch
    return pytest.skip(f"transformers is installed and cannot load {name}")


def _timm(name):
    with suppress(ImportError, RuntimeError):  # a torchvision built for another torch raises the latter
        import timm

        return timm.create_model(name, num_classes=3), torch.randn(2, 3, 224, 224)
    return pytest.skip("timm cannot be imported")


def _build(name):
    torch.manual_seed(1)
    if name.startswith("timm:"):
        return _timm(name.removeprefix("timm:"))
    return _hugging_face(name) if name in SMALL else MODELS[name]()


# --- fixtures


@pytest.fixture(params=[*MODELS, *SMALL, "timm:resnet10t", "timm:vit_tiny_patch16_224"])
def subject(request):
    """A model and a batch for it."""
    return _build(request.param)


@pytest.fixture
def bert():
    return _build("BertModel")


@pytest.fixture
def lazy():
    return convnet()


@pytest.fixture
def hostile():
    return Hostile


@pytest.fixture
def portrait():
    """Everything that a visit promises to keep, as one value that can be compared."""
    return _portrait


@pytest.fixture
def bits():
    return _bits


@pytest.fixture
def unsettle():
    return _unsettle
