"""Why a weights-only load refuses a file: every name at once, and the safe way on."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from trainlab.errors import SubjectError
from trainlab.subjects.checkfile.grading import Global, Grade

__all__ = ["refused"]


def refused(path: Path, names: Iterable[Global], allowed: Collection[str] = ()) -> SubjectError | None:
    """The error for a file that holds code; None where it holds none.

    Args:
        path: The file.
        names: Every name that it asks for.
        allowed: Names that are allowed here beyond those that torch allows by itself.
    """
    bad = {each.name: each for each in names if each.grade is not Grade.HARMLESS and each.name not in allowed}
    if not bad:
        return None
    salvage = f"`trainlab salvage {path} -o weights.safetensors` takes its tensors out and runs nothing"
    dangerous = sorted(name for name, each in bad.items() if each.grade is Grade.DANGEROUS)
    if dangerous:
        fix = f"do not load it: it would run {', '.join(dangerous)}\n{salvage}"
    else:
        whole = any(name.startswith("torch.nn.modules.") for name in bad)
        fix = (
            ("it is a pickled model: save model.state_dict() instead\n" if whole else "")
            + f"if these are yours, allow them: torch.serialization.add_safe_globals([{', '.join(sorted(bad))}])\n"
            f"or, if you trust the file, trust=True loads it and runs whatever code it holds\nor {salvage}"
        )
    return SubjectError(f"{path} holds code, and was not loaded", seen="\n".join(sorted(bad)), fix=fix)
