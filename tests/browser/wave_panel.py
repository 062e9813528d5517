"""A panel over plain callables, for the pages of the browser tests: no model, no room, milliseconds."""

from __future__ import annotations

import json
import time

import numpy as np

from trainlab.errors import NotApplicable, SubjectError
from trainlab.finding import Evidence, Finding, Findings, Level
from trainlab.panel import Panel, PanelView
from trainlab.progress import track

LAYERS = ["stem", *(f"blocks.{i}.attention.output_projection" for i in range(6)), "head"]


def probe(pairs: int, train: bool, pause: float = 0.0) -> dict[str, object]:
    if pairs == 64:
        raise SubjectError(
            "the batch is too small", seen="32 samples, 64 pairs asked for", fix="pairs=32 or fewer"
        )
    for _ in track(range(pairs), label="forward"):
        time.sleep(pause)
    return {"pairs": pairs, "train": train, "variation": [10 ** (-i * 0.9) for i in range(len(LAYERS))]}


def heatmap(figure, *, frequency: int = 2, colours: str = "viridis", weights: bool = False) -> None:
    if frequency == 7:
        raise ValueError("seven is <not> a frequency")
    y, x = np.mgrid[:256, :256] / 256
    axes = figure.add_subplot()
    image = axes.imshow(np.sin(6 * frequency * x) * np.cos(9 * y) + weights * x, cmap=colours)
    axes.set(title=f"Response at frequency {frequency}", xlabel="key", ylabel="query")
    figure.colorbar(image, label="response")


def depth(figure, *, floor: float = 1e-3) -> None:
    axes = figure.add_subplot()
    axes.semilogy([10 ** (-i * 0.9) for i in range(len(LAYERS))], marker="o")
    axes.axhspan(0, floor, alpha=0.2)
    axes.set_xticks(range(len(LAYERS)), LAYERS, rotation=40, ha="right")
    axes.set_ylabel("variation")


def nothing(figure) -> None:
    raise NotApplicable("there are no images in this batch", seen="tokens", fix="use another view")


def findings(outcome: dict[str, object]) -> Findings:
    dead = Evidence("blocks.3.attention.output_projection", 0.0003, 0.01)
    return Findings(
        (
            Finding("WAV001", "Output is finite", Level.OK, "4096 of 4096 values are finite"),
            Finding("WAV002", "Output varies with the input", Level.FAIL, f"variation 0.0003 over {outcome['pairs']} pairs", (dead,), "look at blocks.3: its output projection is still at its zero init"),
            Finding("WAV003", "Every layer is alive", Level.WARN, "1 of 8 layers is dead", (dead,), "check its learning rate"),
            Finding("WAV004", "Tokens differ", Level.SKIP, "the output has no token axis"),
        )
    )  # fmt: skip


def panel(pause: float = 0.0) -> Panel:
    return Panel(
        title="variation",
        question="Does the output move when the input does, which input does it listen to, and where does it die?",
        run=lambda **settings: probe(pause=pause, **settings),
        rerun={"pairs": (2, 64, 2), "train": False},
        start={"pairs": 16},
        views=lambda outcome: [
            PanelView(
                "heatmap",
                "Response",
                heatmap,
                {"frequency": (1, 8), "colours": ["viridis", "magma", "RdBu_r"], "weights": False},
                {"frequency": 2},
            ),
            PanelView("depth", "Profile by depth", depth, {"floor": {"strict": 1e-2, "usual": 1e-3}}),
            PanelView("nothing", "Predictions side by side", nothing),
        ],
        findings=findings,
        to_json=json.dumps,
    )


def long_names() -> Panel:
    """The same with names as long as real models have them."""
    module = "backbone.encoder.stages.3.blocks.11.temporal_attention.output_projection.lora_adapter"
    knobs = {
        "index_of_the_first_frame_that_the_attention_is_averaged_over": (0, 5),
        "layer": [module, f"{module}.bias"],
        "also_show_the_second_module": False,
    }
    view = PanelView(
        "long", f"What {module} listens to, head by head", lambda figure, **_: depth(figure), knobs
    )
    evidence = Evidence(module, 0.0003, 0.01)
    return Panel(
        title=f"variation of {module}",
        question=f"Does the output of {module} move when the input does?",
        run=lambda **settings: settings,
        rerun={"number_of_pairs_of_samples_that_are_compared_with_each_other": (2, 64, 2)},
        views=lambda outcome: [view, PanelView("short", "Short", depth)],
        findings=lambda outcome: Findings(
            (
                Finding(
                    "WAV001",
                    "Output varies",
                    Level.FAIL,
                    f"{module} is constant",
                    (evidence,),
                    f"look at {module}",
                ),
            )
        ),
        to_json=json.dumps,
    )
