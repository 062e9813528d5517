"""A small project on disk: a model, a config, checkpoints of many kinds."""

from __future__ import annotations

import sys
import textwrap

import pytest
import torch
from torch import nn

SHOP = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from torch import nn

@dataclass
class Sizes:
    hidden: int = 8

class Net(nn.Module):
    def __init__(self, hidden=8, depth=2):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth))
        self.head = nn.Linear(hidden, 2)

    def forward(self, x):
        for block in self.blocks:
            x = x + torch.relu(block(x))
        return self.head(x)

def build(config):
    return Net(config["hidden"], config.depth)

def one_batch(config=None, device=None):
    return {"x": torch.randn(4, config["hidden"] if config else 8, device=device)}

class Square(nn.Module):
    def forward(self, a, b):
        return ((a - b) ** 2).mean()

def mean_error(a, b):
    return (a - b).mean()

net = Net()
number = 3
"""


class Net(nn.Module):
    """The model of the tests, the same as the one in the project on disk."""

    def __init__(self, hidden=8, depth=2):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth))
        self.head = nn.Linear(hidden, 2)

    def forward(self, x):
        for block in self.blocks:
            x = x + torch.relu(block(x))
        return self.head(x)


CONFIG = {"hidden": 8, "depth": 2, "lr": 1e-3, "data": {"size": 16}}


@pytest.fixture
def net():
    torch.manual_seed(7)
    return Net()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The working folder, with ``shop.py`` in it; modules imported from it are forgotten afterwards."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def ckpt(project, net):
    """A training checkpoint: weights, optimizer, counters, config."""
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(3, 8)).sum().backward()
    optimizer.step()
    path = project / "runs" / "a" / "step_4000.pt"
    path.parent.mkdir(parents=True)
    torch.save(
        {
            "model": net.state_dict(),
            "optimizer": optimizer.state_dict(),
            "rng": {"cpu": torch.get_rng_state()},
            "iter": 4000,
            "epoch": torch.tensor(3),
            "config": CONFIG,
        },
        path,
    )
    return path


@pytest.fixture
def write(project):
    """Writes a text file into the project."""

    def write(name, text):
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    return write


@pytest.fixture
def same():
    """Do two models hold the same weights?"""

    def same(one, other):
        a, b = one.state_dict(), other.state_dict()
        return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)

    return same
