"""Digit dynamics: a small video model on real data, healthy and sick, for demos, docs and tests.

A diffusion-forcing transformer sees clips of a moving handwritten digit, every frame at a noise level ``tau`` of its
own (0 clean, 1 noise), and predicts the clean frames. `train` makes a run in about a minute on 2 CPU cores.
"""

from trainlab.examples.digits.config import Config
from trainlab.examples.digits.data import one_batch
from trainlab.examples.digits.demo import demo
from trainlab.examples.digits.model import DigitDynamics, build
from trainlab.examples.digits.slips import SLIPS
from trainlab.examples.digits.training import train
from trainlab.examples.digits.twins import TWINS

__all__ = ["SLIPS", "TWINS", "Config", "DigitDynamics", "build", "demo", "one_batch", "train"]
