"""What a line counts: its step, epoch, and how many there are to be; and progress bars.

Each form is a pattern; what it has read is blanked out of the line, so that the names of quantities
(`text_grammar`) do not run across it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["BREAK", "Counters", "counters"]

BREAK = "\x02"  # stands where a counter, date or bar was
NUM = r"\d{1,3}(?:,\d{3})+(?!\d)|\d+(?:\.\d+)?(?:[eE]\+?\d+)?"
_OF = rf"(?:\s*(?:/|of|out of)\s*(?P<of>{NUM}))?"
_SIGN = r"""["']?\s*[\])]?\s*(?::|=|\#|\[|\()*\s*[\[(]*\s*["']?\s*"""
# which of several steps on a line is the step of the run: the first of these
_STEPS = (
    r"(?:trainer/)?(?:train_|valid_|val_|test_)?global[ _-]?steps?", r"(?:train_|valid_|val_|test_)?num[ _]updates", r"(?:total[ _]|num[ _])?timesteps(?:[ _]total)?", r"total[ _]steps?",
    r"train(?:ing)?[ _-]?(?:step|iteration|iter)s?", r"learning iteration", r"current[ _]iter\w*", r"optimizer[ _]step", r"iterations?", r"iters?",
    r"steps?", r"updates?", r"itr", r"tick", r"it", r"batch(?:[ _](?:idx|no))?", r"mini-?batch", r"bs",
)  # fmt: skip
_EPOCHS = r"(?:train(?:ing)?[ _])?epochs?(?:[ _](?:num|idx|number))?|ep|num[ _]epochs?|round"
# a counter is no setting (`max_steps`), no file (`step_10.pt`) and no speed (`ms/step`)
_LEFT = r"(?<![\w./\\-])(?<!max )(?<!num )(?<!warmup )(?<!every )(?<!per )(?<!total )(?<!save )(?<!nan )(?<!skipped )(?<!all )(?<!fps )"
_RIGHT = r"(?![\w]*\.(?:pt|pth|ckpt|bin|safetensors|json|txt|npz|h5|png|jpg|onnx|keras)\b)(?!\s*(?:minutes|hours|s\b|sec))"
_EPOCH = re.compile(
    rf"{_LEFT}(?P<name>{_EPOCHS})(?:\((?:train|val|test)\))?{_SIGN}(?P<at>{NUM})(?![\d.:]*\d){_OF}{_RIGHT}",
    re.IGNORECASE,
)
_STEP = [
    re.compile(rf"{_LEFT}(?P<name>{name}){_SIGN}(?P<at>{NUM})(?![\d.:]*\d){_OF}{_RIGHT}", re.IGNORECASE)
    for name in _STEPS
]
_STEP[1:1] = [
    re.compile(
        rf"(?P<name>(?:cur(?:rent)?|tot(?:al)?)[ _](?:step|iter)s?){_SIGN}(?P<at>{NUM}){_OF}", re.IGNORECASE
    )
]
# the step inside an epoch, right after it: [20/500], (640/60000 (1%)), | 200/ 2983 batches
_INNER = re.compile(
    rf"[\])\s:,|-]*(?:batch|step|iter(?:ation)?)?\s*[:#]?\s*[\[(|]\s*(?P<at>{NUM})\s*/\s*(?P<of>{NUM})(?=\s*(?:[\])(,]|batches|steps|iters))",
    re.IGNORECASE,
)
_PLAIN = [
    # Swin: Train: [0/300][250/1251]
    re.compile(
        rf"\b(?:Train|Test|Val|Eval)\w*:?\s*\[(?P<epoch>\d+)/(?P<epochs>\d+)\]\s*\[\s*(?P<at>{NUM})\s*/\s*(?P<of>{NUM})"
    ),
    # timm: Train: 0 [  50/1251 (  4%)]
    re.compile(rf"\b(?:Train|Training|Test|Val|Eval)\w*:?\s+(?P<epoch>\d+)\s*\[\s*(?P<at>{NUM})\s*/\s*(?P<of>{NUM})"),
    re.compile(rf"\b(?:Train|Training|Test|Val|Validation|Eval)\w*:?\s*\[\s*(?P<at>{NUM})\s*/\s*(?P<of>{NUM})"),
    re.compile(rf"^\s*\[\s*(?P<epoch>\d+)\s*,\s*(?P<at>{NUM})\]"),  # [1,  2000] loss: 2.173
    re.compile(rf"^\s*\[\s*(?P<epoch>\d+)(?:/(?P<epochs>\d+))?\]\s*\[\s*(?P<at>{NUM})\s*/\s*(?P<of>{NUM})\s*\]"),  # [0/5][50/1583]
    re.compile(r"(?<!\d)(?P<epoch>\d+)epoch:\w+:\d+-(?P<at>\d+)batch"),  # ESPnet
    re.compile(r"(?:^|\])\s*\[\s*(?P<at>\d+)\]\s"),  # XGBoost: [0]	train-rmse:0.5; absl: train.py:300] [50] loss=1.2
    re.compile(r"^\s*\[?\s*(?P<at>\d+)\s*/\s*(?P<of>\d+)\s*\](?=\s)"),  # [ 20/500] loss
    re.compile(rf"^\s*(?P<at>{NUM})\s*/\s*(?P<of>{NUM}),(?=\s*[A-Za-z])"),  # MONAI: 1/32, train_loss: 0.9
    re.compile(r"^\s*(?P<at>\d+):\s"),  # CatBoost: 0:	learn: 0.69
    re.compile(rf"^(?:s|i|it|step|iter)[:=](?P<at>{NUM})(?=[ ,])"),
    re.compile(r"^\[(?P<at>\d+) \| "),  # GPT-2 in TensorFlow: [20 | 31.50] loss=2.1
    re.compile(r"^#(?P<at>\d+)\s"),
]  # fmt: skip
_WENET = re.compile(r"\b(?:TRAIN|CV) Batch (?P<epoch>\d+)/(?P<at>\d+)(?= )")
_BETWEEN = re.compile(r"\b(?:train|validation) loss (?P<at>\d+):? (?=\s*\d+\.\d)", re.IGNORECASE)  # Tacotron
# durations were replaced by \x01 before
_BARS = [
    re.compile(
        rf"(?:(?P<percent>\d+(?:\.\d+)?)%\s?)?\|[^|]*\|\s*(?P<at>{NUM})[kMG]?/(?P<of>{NUM})[kMG]?\s*\[(?P<elapsed>\x01+)<(?:\x01+|\?|\d+ days?, \x01+)(?:,\s*[^,\]]*?)?(?P<end>[,\]])"
    ),
    re.compile(r"(?P<at>\d+)it \[(?P<elapsed>\x01+),\s*[^,\]]*?(?P<end>[,\]])"),
    re.compile(r"^\s*(?P<at>\d+)/(?P<of>\d+) \[[=>.\s]*\](?: - ETA: \S+| - \d+m?s(?: \d+[mu]?s/\w+)?)?(?P<end>)"),  # Keras
    re.compile(
        r"^\s*(?P<at>\d+)/(?P<of>\d+) (?:[^\x00-\x7f]+ *)+(?:\x01+|\d+[mu]?s)(?: (?:\x01+|\d+[mu]?s)/\w+)?(?P<end>)"
    ),  # Keras 3
    re.compile(r"^\s*(?P<at>\d+)/(?P<of>\d+) - \d+m?s(?: - \d+[mu]?s/\w+)?(?P<end>)"),
    re.compile(r"[^\x00-\x7f]{3,}\s*(?P<at>\d+)/(?P<of>\d+)\s+(?P<elapsed>\x01+)\s+\S+\s+\S+\s+(?:[\d.]+it/s)?(?P<end>)"),  # Rich
]  # fmt: skip


@dataclass
class Counters:
    """What a line counts: for each, the index of its number in the line; -1 where it does not tell.

    Attributes:
        step, epoch, total, epochs: The step, the epoch, and how many of them there are to be.
        elapsed: The place in the line where a bar tells the time since it began.
        clock: What the step is called.
        bar: It is a progress bar.
        before: What the line says before the bar.
        spans: What was read, to be blanked out.
        hole: A step that stands between a name and its number.
        cut: Where the line ends that is read for quantities (a bar's bracket), or -1.
    """

    step: int = -1
    epoch: int = -1
    total: int = -1
    epochs: int = -1
    elapsed: int = -1
    clock: str = ""
    bar: bool = False
    before: str = ""
    spans: list[tuple[int, int]] = field(default_factory=list)
    cut: int = -1
    hole: tuple[int, int] = (0, 0)

    def __bool__(self) -> bool:
        return self.step >= 0 or self.epoch >= 0


def counters(line: str, index: dict[int, int]) -> Counters:
    r"""What the line counts.

    Args:
        line: The line; dates blanked out, durations replaced by ``\x01``.
        index: The number that begins at each place of the line.
    """
    found = Counters()
    _bar(line, index, found)
    between, wenet = _BETWEEN.search(line), _WENET.search(line)
    if between:
        found.step, found.clock, found.hole = index.get(between.start("at"), -1), "step", between.span("at")
    if wenet:
        found.epoch = index.get(wenet.start("epoch"), -1)
        _take_step(wenet, index, found, "batch")
    text = _blank(line, found.spans)
    _epoch(text, index, found)
    for form in _STEP:
        for each in form.finditer(text):
            if index.get(each.start("at"), -1) < 0:
                continue
            found.spans.append(each.span())
            if found.step < 0 or (found.bar and each["name"].lower() not in ("it", "batch")):
                found.bar = False
                _take_step(each, index, found, each["name"].lower())
    for form in _PLAIN:
        if found.step >= 0:
            break
        plain = form.search(text)
        if plain:
            names = plain.groupdict()
            if names.get("epoch") and found.epoch < 0:
                found.epoch = index.get(plain.start("epoch"), -1)
                found.epochs = index.get(plain.start("epochs"), -1) if names.get("epochs") else -1
            _take_step(plain, index, found, "batch" if names.get("of") or names.get("epoch") else "step")
    return found


def _bar(line: str, index: dict[int, int], found: Counters) -> None:
    for form in _BARS:
        each = form.search(line)
        if each is None or each.start("at") not in index:
            continue
        found.bar, found.before = True, line[: each.start()]
        _take_step(each, index, found, "bar")
        if "elapsed" in form.groupindex:
            found.elapsed = each.start("elapsed")
        if each["end"]:
            found.cut = line.rfind("]")
        return


def _epoch(text: str, index: dict[int, int], found: Counters) -> None:
    for each in _EPOCH.finditer(text):
        at = index.get(each.start("at"), -1)
        if at < 0:
            continue
        found.spans.append(each.span())
        if found.epoch >= 0:
            continue
        found.epoch = at
        if each["of"]:
            found.epochs = index.get(each.start("of"), -1)
        inner = _INNER.match(text, each.end())
        if inner and found.step < 0:
            _take_step(inner, index, found, "batch")


def _take_step(each: re.Match[str], index: dict[int, int], found: Counters, name: str) -> None:
    found.step, found.clock = index.get(each.start("at"), -1), name
    of = each.groupdict().get("of")
    found.total = index.get(each.start("of"), -1) if of else -1
    found.spans.append(each.span())


def _blank(line: str, spans: list[tuple[int, int]]) -> str:
    for start, end in spans:
        line = line[:start] + BREAK * (end - start) + line[end:]
    return line
