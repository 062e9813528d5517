"""The demo's runs: the healthy one, and the sick twins that its reports tell from it."""

from __future__ import annotations

from pathlib import Path

from trainlab.examples.digits.training import train

__all__ = ["demo"]

SICK = ("dead_relu", "only_tau", "uniform_time_attention")
SHORT = 120  # steps; a sick twin shows its fault early


def demo(out_dir: str | Path) -> tuple[Path, ...]:
    """Trains the demo's runs into folders of their own, or finds them there: under 2 minutes on 2 CPU cores.

    Args:
        out_dir: Holds ``healthy``, ``dead_relu``, ``only_tau`` and ``uniform_time_attention`` afterwards.

    Returns:
        The last checkpoint of each, the healthy one first.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    out = Path(out_dir)
    sick = (train(out / twin, twin=twin, steps=SHORT) for twin in SICK)
    return (train(out / "healthy"), *sick)
