"""What an audit keeps: a row for every checkpoint, and what the logs and folders around them say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from trainlab.result import Result, column

__all__ = ["BAD", "AuditResult"]

BAD = ("cut", "damaged", "no checkpoint")  # the states of a file that cannot be loaded whole


class AuditResult(Result, kind="audit", schema=1):
    """Checkpoints, logs and outputs, as they lie on the disk.

    In whole numbers -1 means not known; in what is expected, that nothing is.
    """

    given: str
    """What was asked for, as it was typed."""
    root: str
    """The folder that all names are relative to."""
    now: float
    """When it was looked at, seconds since 1970."""
    whole: bool
    """Was everything looked at? Of more than 200 000 files the rest is left out."""
    expect_epoch: int
    expect_iter: int
    expect_width: int
    expect_depth: int
    expect_every_epochs: int
    expect_every_iters: int
    expect_size: int
    """Bytes of the last checkpoint of a run."""
    expect_total: int
    """Bytes of all checkpoints."""
    expect_count: int

    file_name: tuple[str, ...] = column("file")
    file_run: tuple[str, ...] = column("file")
    """The run that it belongs to: its folder and its name without counters and words such as ``best``."""
    file_state: tuple[str, ...] = column("file")
    """``whole``, ``cut``, ``damaged`` or ``no checkpoint``."""
    file_epoch: np.ndarray = column("file")
    """(file,) int64: the epoch that it says it was saved at."""
    file_iter: np.ndarray = column("file")
    """(file,) int64: the iteration; where it says none, its optimizer's highest step count."""
    file_width: np.ndarray = column("file")
    """(file,) int64: the config's where a tensor has such a side, else by vote of the shapes."""
    file_depth: np.ndarray = column("file")
    """(file,) int64: the config's where a stack has so many blocks, else the number of blocks."""
    file_parameters: np.ndarray = column("file")
    """(file,) int64: elements of the model's tensors, shared ones once."""
    file_bytes: np.ndarray = column("file")
    """(file,) int64: its size on disk."""
    file_implied_bytes: np.ndarray = column("file")
    """(file,) int64: what its tensors need."""
    file_weights_bytes: np.ndarray = column("file")
    """(file,) int64: of that, the model's weights."""
    file_optimizer: tuple[str, ...] = column("file")
    """The optimizer whose state is in it; "" where there is none."""
    file_optimizer_bytes: np.ndarray = column("file")
    """(file,) int64: the tensors of optimizers."""
    file_dtypes: tuple[str, ...] = column("file")
    """The dtypes of its tensors, with their share of the elements where there are several."""
    file_crc: tuple[str, ...] = column("file")
    """``good``, ``unverifiable``, ``damaged``; "" where it was not checked."""
    file_format: tuple[str, ...] = column("file")
    file_time: np.ndarray = column("file")
    """(file,) float64: when it was last written, seconds since 1970."""
    file_trouble: tuple[str, ...] = column("file")
    """What is wrong with it, in words; "" where nothing is."""
    file_fix: tuple[str, ...] = column("file")
    file_config: tuple[str, ...] = column("file")
    """Where its config and its shapes disagree."""
    file_width_from: tuple[str, ...] = column("file")
    file_depth_from: tuple[str, ...] = column("file")
    file_planned: np.ndarray = column("file")
    """(file,) int64: how many epochs its config plans."""
    file_named_epoch: np.ndarray = column("file")
    """(file,) int64: the epoch in its name."""
    file_named_iter: np.ndarray = column("file")

    claim_log: tuple[str, ...] = column("claim")
    claim_line: np.ndarray = column("claim")
    """(claim,) int64: the line of the log; 0 where the log is too long to count."""
    claim_kind: tuple[str, ...] = column("claim")
    """``epoch``, ``iter``, ``finished``, ``saved`` or ``error``."""
    claim_value: np.ndarray = column("claim")
    claim_of: np.ndarray = column("claim")
    """(claim,) int64: how many epochs or iterations there were to be."""
    claim_path: tuple[str, ...] = column("claim")
    """The file that was saved, as the log has it."""
    claim_text: tuple[str, ...] = column("claim")
    claim_time: np.ndarray = column("claim")
    """(claim,) float64: when the log was last written."""

    output_folder: tuple[str, ...] = column("output")
    output_files: np.ndarray = column("output")
    output_first: np.ndarray = column("output")
    """(output,) float64: when its oldest file was written."""
    output_last: np.ndarray = column("output")

    nested_folder: tuple[str, ...] = column("nested")
    """A folder whose path has the same folders twice."""
    nested_twice: tuple[str, ...] = column("nested")
    """What is there twice."""
    nested_files: np.ndarray = column("nested")
    """(nested,) int64: checkpoints in it."""

    wanted_name: tuple[str, ...] = column("wanted")
    """What ``expect`` names in ``files``."""
    wanted_found: tuple[str, ...] = column("wanted")
    """The first file of that name; "" where there is none."""

    hypothesis_text: tuple[str, ...] = column("hypothesis")
    """What may have happened, the likeliest first."""
    hypothesis_support: np.ndarray = column("hypothesis")
    """(hypothesis,) int64: how many facts speak for it, less those that speak against it."""
    hypothesis_evidence: tuple[str, ...] = column("hypothesis")
    hypothesis_next: tuple[str, ...] = column("hypothesis")
    """Where to look next."""

    def good(self) -> list[int]:
        """The files that can be loaded whole, by index."""
        return [i for i, state in enumerate(self.file_state) if state not in BAD]

    def bad(self) -> list[int]:
        """The others."""
        return [i for i, state in enumerate(self.file_state) if state in BAD]

    def runs(self) -> dict[str, list[int]]:
        """The files of each run, by index."""
        found: dict[str, list[int]] = {}
        for i, run in enumerate(self.file_run):
            found.setdefault(run, []).append(i)
        return found

    def reached(self, files: list[int], what: str = "epoch") -> int | None:
        """The file that got furthest among those that can be loaded whole.

        Args:
            files: By index.
            what: ``epoch`` or ``iter``.

        Returns:
            The file's index; None where none says how far it got.
        """
        counts = self.counts(what)
        known = [i for i in files if self.file_state[i] not in BAD and counts[i] >= 0]
        return max(known, key=lambda i: (counts[i], self.file_time[i]), default=None)

    def counts(self, what: str) -> np.ndarray:
        """How far each file is: its epoch or its iteration; its name tells where it does not itself."""
        said, named = (
            (self.file_epoch, self.file_named_epoch)
            if what == "epoch"
            else (self.file_iter, self.file_named_iter)
        )
        return np.where(said >= 0, said, named)

    def step(self, files: list[int], what: str = "epoch") -> int:
        """How far apart the checkpoints of a run are: as expected, or the commonest distance; 0 where none is common."""
        wanted = self.expect_every_epochs if what == "epoch" else self.expect_every_iters
        if wanted > 0:
            return wanted
        places = sorted(self._places(files, what))
        gaps = [b - a for a, b in pairwise(places)]
        commonest = max(gaps, key=lambda gap: (gaps.count(gap), -gap), default=0)
        return commonest if gaps.count(commonest) > len(gaps) / 2 else 0

    def spoken_for(self, log: str) -> list[int]:
        """The files that a log speaks of: those in its folder and below it, else all.

        A log in a folder of logs speaks of what lies beside that folder.
        """
        folder = log.rpartition("/")[0]
        for place in (folder, folder.rpartition("/")[0]):
            inside = [i for i, name in enumerate(self.file_name) if not place or name.startswith(place + "/")]
            if inside:
                return inside
        return list(range(len(self.file_name)))

    def gaps(self, files: list[int], what: str = "epoch") -> list[int]:
        """Epochs or iterations that lack a checkpoint between the first and the last of a run, torn ones counted in."""
        places = self._places(files, what)
        apart = self.step(files, what)
        if apart <= 0 or len(places) < 2:
            return []
        rests = [place % apart for place in places]
        usual = max(set(rests), key=lambda rest: (rests.count(rest), -rest))
        first = min(place for place in places if place % apart == usual)
        near = 1 if apart > 1 else 0  # counted from 0 here and from 1 there
        known = {place + shift for place in places for shift in range(-near, near + 1)}
        return [place for place in range(first, max(places), apart) if place not in known]

    def _places(self, files: list[int], what: str) -> set[int]:
        """Where a run's checkpoints stand by their names; where no name has a number, by what is inside."""
        named = self.file_named_epoch if what == "epoch" else self.file_named_iter
        numbered = {int(named[i]) for i in files if named[i] >= 0}
        counts = self.counts(what)
        return numbered or {int(counts[i]) for i in files if counts[i] >= 0}
