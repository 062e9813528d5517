"""Does `rollout` name planted faults, and leave healthy models alone? A table; exits 1 where it does not.

    python -m benchmarks.rollout_study [--ckpt CHECKPOINT]

Faults are planted in the truth itself: a model that knows the future, and shows it blurred, frozen, jittered. They are
told at three sizes, on three kinds of clips and with three seeds. Healthy are the truth with the noise of a good codec, the
truth slightly out of focus, and predictors that were really trained. ``--ckpt`` adds a run of the digits example, of which
nothing is expected: it is shown as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

import trainlab as tl
from trainlab.diagnostics.rollout.example import NextFrame, squares
from trainlab.finding import Findings, Level

CONTEXT, FRAMES = 4, 16
SIZES = (16, 24, 48)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Case:
    """A model to look at: its fault, the rule that should name it ("" where it is healthy), and what is to be known."""

    fault: str
    code: str
    clips: str
    size: int
    seed: int
    model: nn.Module
    batch: Tensor

    def look(self) -> Findings:
        return tl.rollout.judge(tl.rollout.probe(self.model, self.batch, context=CONTEXT, seed=self.seed))


class Oracle(nn.Module):
    """Knows the true clips, and answers with what a fault makes of them."""

    def __init__(
        self, clips: Tensor, fault: Callable[[Tensor, np.random.Generator], Tensor], seed: int
    ) -> None:
        super().__init__()
        self.clips, self.fault, self.seed = clips, fault, seed

    def rollout(self, context: Tensor, frames: int) -> Tensor:
        start = context.shape[1]
        answer = self.fault(self.clips[:, start - 1 : start + frames], np.random.default_rng(self.seed))
        return answer[:, 1:]


# --- what a fault makes of the last context frame and all that follow, values 0 to 1


def noisy(clips: Tensor, rng: np.random.Generator, *, decibels: float = 30.0) -> Tensor:
    noise = torch.from_numpy(rng.standard_normal(clips.shape)).to(clips)
    return clips + 10 ** (-decibels / 20) * noise


def noise_12_db(clips: Tensor, rng: np.random.Generator) -> Tensor:
    return noisy(clips, rng, decibels=12.0)


def blurred(clips: Tensor, sigma: Callable[[int], float]) -> Tensor:
    frames = [gaussian_filter(clips[:, i].numpy(), (0, 0, sigma(i), sigma(i))) for i in range(clips.shape[1])]
    return torch.from_numpy(np.stack(frames, 1))


def out_of_focus(clips: Tensor, rng: np.random.Generator) -> Tensor:
    return noisy(blurred(clips, lambda _: 0.35), rng, decibels=35.0)


def blur_after_4(clips: Tensor, rng: np.random.Generator) -> Tensor:
    return noisy(blurred(clips, lambda i: 0.6 * max(0, i - 4)), rng)


def freeze(clips: Tensor, rng: np.random.Generator) -> Tensor:
    places = torch.arange(clips.shape[1]).clamp(max=int(rng.integers(2, 6)))
    return clips[:, places]


def copy_last(clips: Tensor, _: np.random.Generator) -> Tensor:
    return clips[:, :1].expand_as(clips)


def jitter(clips: Tensor, rng: np.random.Generator) -> Tensor:
    reach = max(2, clips.shape[-1] // 12)
    shifts = rng.integers(-reach, reach + 1, (clips.shape[1], 2))
    moved = [clips[:, i].roll(tuple(map(int, shift)), (-2, -1)) for i, shift in enumerate(shifts)]
    return noisy(torch.stack(moved, 1), rng)


def brightness_drift(clips: Tensor, rng: np.random.Generator) -> Tensor:
    return noisy(clips + 0.01 * torch.arange(clips.shape[1])[:, None, None, None], rng)


def contrast_fade(clips: Tensor, rng: np.random.Generator) -> Tensor:
    mean = clips.mean((-2, -1), keepdim=True)
    return noisy(mean + (clips - mean) * 0.95 ** torch.arange(clips.shape[1])[:, None, None, None], rng)


def held_frames(clips: Tensor, rng: np.random.Generator) -> Tensor:
    return noisy(clips[:, torch.arange(clips.shape[1]) // 3 * 3], rng, decibels=40.0)


def flicker(clips: Tensor, rng: np.random.Generator) -> Tensor:
    sign = 1 - 2 * (torch.arange(clips.shape[1]) % 2)
    return noisy(clips + 0.16 * sign[:, None, None, None], rng)


def broken(clips: Tensor, rng: np.random.Generator) -> Tensor:
    answer = noisy(clips, rng)
    answer[0, 6:, :, 0, 0] = torch.nan
    return answer


FAULTS: Mapping[Callable[[Tensor, np.random.Generator], Tensor], str] = MappingProxyType(
    {
        broken: "ROL001",
        noise_12_db: "ROL002",
        copy_last: "ROL003",
        blur_after_4: "ROL004",
        held_frames: "ROL005",
        flicker: "ROL006",
        jitter: "ROL006",
        brightness_drift: "ROL007",
        contrast_fade: "ROL007",
        freeze: "ROL008",
        noisy: "",
        out_of_focus: "",
    }
)


# --- clips: (clip, frame, channel, height, width), 0 to 1


def pans(clips: int, size: int, seed: int) -> Tensor:
    """A camera that goes over a landscape with the spectrum of natural images, in colour."""
    rng = np.random.default_rng(seed)
    world = 2 * size + 2 * FRAMES
    down, across = np.fft.fftfreq(world)[:, None], np.fft.fftfreq(world)[None]
    falloff = 1 / np.maximum(np.hypot(down, across), 1 / world)
    found = []
    for _ in range(clips):
        white = np.fft.fft2(rng.standard_normal((3, world, world)))
        land = np.fft.ifft2(white * falloff).real
        land = np.clip((land - land.mean()) / (6 * land.std()) + 0.5, 0, 1)
        speed = rng.choice([-2, -1, 1, 2], 2)
        start = rng.integers(0, size, 2)
        found.append(
            [np.roll(land, tuple(-(start + speed * t)), (-2, -1))[:, :size, :size] for t in range(FRAMES)]
        )
    return torch.from_numpy(np.array(found, np.float32))


def bounces(clips: int, size: int, seed: int) -> Tensor:
    """A soft disc that bounces off the edges: motion that is jerky at times by itself."""
    rng = np.random.default_rng(seed)
    room, pixel = size - 1, np.arange(size)
    time = np.arange(FRAMES)[None, :, None]
    way = rng.uniform(0.03, 0.1, (clips, 1, 2)) * size * rng.choice([-1, 1], (clips, 1, 2))
    place = (rng.uniform(0, room, (clips, 1, 2)) + way * time) % (2 * room)
    place = np.minimum(place, 2 * room - place)
    apart = [(pixel - place[..., axis, None]) ** 2 for axis in (0, 1)]
    square = apart[0][..., :, None] + apart[1][..., None, :]
    disc = 1 / (1 + np.exp(2 * (np.sqrt(square) - size / 5)))
    return torch.from_numpy(disc.astype(np.float32))[:, :, None]


def gliding(clips: int, size: int, seed: int) -> Tensor:
    return squares(clips, FRAMES, size, seed=seed)


CLIPS: Mapping[str, Callable[[int, int, int], Tensor]] = MappingProxyType(
    {"pan": pans, "bounce": bounces, "glide": gliding}
)


def cases(sizes: tuple[int, ...] = SIZES, seeds: tuple[int, ...] = SEEDS) -> Iterator[Case]:
    """All models of the study."""
    for size in sizes:
        for seed in seeds:
            for name, make in CLIPS.items():
                clips = make(8, size, seed)
                for fault, code in FAULTS.items():
                    yield Case(fault.__name__, code, name, size, seed, Oracle(clips, fault, seed), clips)
            model = NextFrame()
            learned = gliding(64, size, 100 + seed)
            noise = torch.randn(learned.shape, generator=torch.Generator().manual_seed(seed))
            model.fit(learned + 0.01 * noise)
            yield Case("trained", "", "glide", size, seed, model, gliding(8, size, seed))


def holds(case: Case, findings: Findings) -> bool:
    """A fault is named by its rule; a healthy model by none."""
    if case.code:
        return findings[case.code].level in (Level.WARN, Level.FAIL)
    return findings.verdict is Level.OK


def fired(findings: Findings) -> str:
    return " ".join(f.code[-1] for f in findings if f.level in (Level.WARN, Level.FAIL)) or "none"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ckpt", default="", help="a checkpoint of the digits example, to be shown beside")
    ckpt = parser.parse_args().ckpt
    torch.set_num_threads(1)
    told: dict[tuple[str, str], list[tuple[bool, str]]] = {}
    for case in cases():
        findings = case.look()
        told.setdefault((case.fault, case.code), []).append((holds(case, findings), fired(findings)))
    print(f"{'model':<18}{'to be told by':<15}{'right':>9}   rules that fired, last digit (times)")
    for (fault, code), seen in told.items():
        ways = [way for _, way in seen]
        often = sorted({(-ways.count(way), way) for way in ways})
        right = f"{sum(ok for ok, _ in seen)}/{len(seen)}"
        print(
            f"{fault:<18}{code or 'no rule':<15}{right:>9}   {'; '.join(f'{w} ({-n})' for n, w in often[:4])}"
        )
    if ckpt:
        examination = tl.rollout.examine(ckpt=ckpt, context=CONTEXT)
        print(f"\n{ckpt}\n{examination.findings}")
        print(examination.frame().round(3).to_string(index=False))
    return int(not all(ok for seen in told.values() for ok, _ in seen))


if __name__ == "__main__":
    sys.exit(main())
