"""Visit a model and leave it as it was found; call it on any batch; hear every module it calls.

Measuring must not disturb. `visit` brackets whatever a probe does to a model, `call` hands a batch over in
the form that the model's forward wants, `watch` listens to the modules, and `tensors` and `map_tensors` walk
the nested batches and outputs that models take and give.
"""

from __future__ import annotations

from trainlab.visit.batch import call, device_of, watch
from trainlab.visit.keep import visit
from trainlab.visit.target import TARGETS, forward_names, without_target
from trainlab.visit.tree import map_tensors, resolution, tensors

__all__ = [
    "TARGETS",
    "call",
    "device_of",
    "forward_names",
    "map_tensors",
    "resolution",
    "tensors",
    "visit",
    "watch",
    "without_target",
]
