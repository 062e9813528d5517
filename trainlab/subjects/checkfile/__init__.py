"""Look inside any checkpoint without running what it holds."""

from __future__ import annotations

from trainlab.subjects.checkfile.diff import Change, Diff, diff
from trainlab.subjects.checkfile.grading import Global, Grade
from trainlab.subjects.checkfile.manifest import ManifestCheck, check_manifest, manifest
from trainlab.subjects.checkfile.peek import Peek, peek
from trainlab.subjects.checkfile.roles import OptimizerInfo, SchedulerInfo
from trainlab.subjects.checkfile.salvage import Salvage, salvage
from trainlab.subjects.checkfile.tensors import Storage, TensorInfo
from trainlab.subjects.checkfile.verify import Check, State, Verification, verify

__all__ = [
    "Change", "Check", "Diff", "Global", "Grade", "ManifestCheck", "OptimizerInfo", "Peek", "Salvage", "SchedulerInfo", "State",
    "Storage", "TensorInfo", "Verification", "check_manifest", "diff", "manifest", "peek", "salvage", "verify",
]  # fmt: skip
