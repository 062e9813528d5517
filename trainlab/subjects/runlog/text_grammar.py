"""What does a line of a training log say? Numbers with their names, its counters, its time and its split.

One grammar for all tools: a number belongs to the name that stands before it. Between the two stands ``:`` or ``=``
(any name), or nothing but a space (a name that is known by itself, as ``loss``, or one that fills its field).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trainlab.subjects.runlog.naming import is_epoch, is_step, is_time, known, role_of, split_of
from trainlab.subjects.runlog.text_counters import BREAK, Counters, counters
from trainlab.subjects.runlog.text_numbers import NUMBER, Moment, durations, moments

__all__ = ["Parsed", "Value", "parse", "worth_parsing"]

_WORTH = re.compile(rb"[A-Za-z_@)\"'\x80-\xff\]]\s*[=:|\s\[(\"'#]*\s*[-+]?[\d.]|(?i:nan|inf)\b|^\s*[\[#]?\d")
_CODE = re.compile(
    r"^\s*(?:def |class |import |from \S+ import|return\b|if .*:\s*$|elif |else:|for .* in .*:|while .*:|with .*:|assert |raise |print\(|@\w|#\s?[a-z!/]|\"\"\")"
    r"|\bself\.\w|\bargs\.\w|[^=!<>]==[^=]|\+=|-=|\*\*|\)\s*:\s*$|\blambda\b|:\s*(?:int|float|str|bool)\s*=|\w\(\)|f['\"].*\{|\{\w+(?::[.\d]*[a-z])?\}.*['\"]\)?$"
    r"|^\s*\w+ = .*(?:\w\(|#)|^\s*[+]+ "
)
_UNITS = r"(?:ms|us|µs|s|sec|secs|seconds|/s/gpu|min|mins|h|hrs|%|pct|x|it/s|s/it|iter/s|tok/s|tokens/s|samples/s|img/s|imgs/s|GB|MB|KB|GiB|MiB|G|M|K|k|B|BPC|BPB|bits|nats|dB|TFLOPs?|TFLOP/s|T)"
_UNIT = re.compile(rf"\s?{_UNITS}(?![A-Za-z0-9])")
_AFTER = re.compile(rf"^\s*{_UNITS}(?![\w])")
_SIGNED = re.compile(
    r"\s*(?:\(\s*\w{1,8}\s*\)\s*)?[\"']?\s*[:=]+>?\s*(?:(?:tf\.)?[Tt]ensor\(|np\.float\d+\(|(?:Device)?[Aa]rray\(|\[|\(|\"|')*\s*[$~]?$"
)
_DELIMITER = re.compile(
    r"[,;|{}()\[\]\t:=<>•→!?]|\s[-–—*]+\s|\s{2,}|(?<!\w)[\"']|[\"'](?!\w)|" + BREAK + "|\x01"
)
_SPACED = re.compile(r"([A-Za-z_][\w@./%-]*)\s+(?:tensor\()?$")
# a number with no name in a field of its own, as llm.c prints: | 210.1 ms | 58.3% MFU | 120518 tok/s
_NAMELESS = re.compile(r"\s?(ms|(?:tok|tokens|samples|imgs?|it|steps)/s)\s*(?:\||$)")
_PLACE = re.compile(
    r"\.(?:py|cc|cpp|cu|h|c|go|rs|so|sh)$|^\d[0-9A-Fa-f]{0,3}$|^[\w.-]+\.(?:com|org|net|edu|local)$|^\W*$"
)
_LEVEL = re.compile(r"^(?:INFO|DEBUG|WARNING|WARN|ERROR|root|main|__main__|stdout|stderr)\b[\s:]*")
_SPLIT = re.compile(
    r"(?<![\w./\\])(train(?:ing|_inner)?|val(?:id(?:ation)?)?|eval(?:uation|uating)?|validating|testing|test|dev|cv)(?![a-z])(?![\w]*[./\\(=]\w)",
    re.IGNORECASE,
)
_QUALIFIERS = {"train", "training", "val", "valid", "validation", "test", "eval", "avg", "average", "mean", "total", "best", "lm", "running",
               "learning", "grad", "gradient", "cross", "smoothed", "final", "global", "policy", "value", "top", "held-out", "heldout"}  # fmt: skip
# where in the code a line was written, not what it says
_SOURCE = re.compile(
    r"\([\w.]+:\d+\)|(?<=\x02 )[\w.]+:\d+(?=\])|(?<=\| )[\w.]+:[\w<>.]+:\d+|\[[\w./-]+:\d+(?::\w+)?(?:, rank=\d+)?\]|[\w/.-]+\.(?:py|cc|cpp|cu|go|h|rs):\d+"
)
_WORD = re.compile(r"[A-Za-z]{2,}")
# a setting that is no number; more than so many on a line are a dump, whatever numbers stand among them
_SETTING = re.compile(r"[A-Za-z_]\w*=[\"']?(?!nan|inf|tensor|[Aa]rray)[A-Za-z/]", re.IGNORECASE)
SETTINGS = 3
# Namespace(lr=1.0, gamma=0.7, seed=1, ...; and how many epochs there are to be, where no epoch is told
_ARGUMENTS = re.compile(r"\b[A-Za-z]\w*\((?:\s*\w+=[^=,]+,){3}")
_RECORD = re.compile(r"\b(?:global_step|step|epoch|iter|iteration|loss)=[-+.\d]")
_EPOCHS = re.compile(r"epochs(?:[\"']\s*:|[\"']?\s*=)\s*\d+\b(?!\s*/)")
# [rank3]: step 1; Rank 3, Iter 1; srun -l: 3: step 1
_RANK = re.compile(r"(?i:\brank)[ _:=]{0,2}(?P<named>\d+)\b|^\s*(?P<first>\d+): ")
_PART = re.compile(r"\[(train|valid|val|dev|test|eval)\]")  # ESPnet: [train] loss=0.3, [valid] loss=0.4
PROSE = 14  # words besides the names: more are prose that speaks of numbers
_DROPPED = re.compile(
    r"^(?:eta\w*|remaining|time left|v num|gpu|cuda|device|rank ?\d*|local rank|world size|pid|port|seed|line|version|v|torch|python|id|node ?\d*|worker|host|exit code"
    r"|signal|percent|progress|date|at|size mb|job|http\w*|status|errno|code|shape|exitcode|num workers|timeout|max mem|mem)$"
)


@dataclass(frozen=True)
class Value:
    """One quantity of a line.

    Attributes:
        name: As the line calls it.
        at: The index of its number in the line.
        of: The index of the number that it is a share of (``9900/10000``), or -1.
    """

    name: str
    at: int
    of: int = -1


@dataclass(frozen=True)
class Parsed:
    """What a line says; every line of its skeleton says the same with other numbers.

    Attributes:
        numbers: How many numbers the line has.
        values: The quantities.
        counters: What it counts.
        moment: When it was written, or None.
        elapsed: The index of the number, or the duration, that tells the seconds since the run began, or None.
        unit: What the elapsed number is to be multiplied by to get seconds.
        split: ``train``, ``val``, ``test`` or "".
        fixed: Numbers that are part of names: where they differ, the names do.
        rank: The index of the number of the process that wrote the line, or -1.
    """

    numbers: int
    values: tuple[Value, ...]
    counters: Counters
    moment: Moment | None = None
    elapsed: Moment | int | None = None
    unit: float = 1.0
    split: str = ""
    fixed: tuple[int, ...] = ()
    rank: int = -1

    @property
    def known(self) -> bool:
        """Is one of the quantities known by its name?"""
        return any(known(value.name) for value in self.values)


def worth_parsing(line: bytes) -> bool:
    """Could the line say anything? Long lines of text without a number do not; W&B's summary says it again."""
    return len(line) < 20_000 and not line.startswith(b"wandb:") and _WORTH.search(line) is not None


def parse(raw: bytes) -> Parsed | None:
    """What a line says, or None where it names no quantity and counts nothing."""
    if not worth_parsing(raw):
        return None
    line = raw.decode("latin-1")  # one character a byte, so that places agree
    spans = [each.span() for each in NUMBER.finditer(raw)]
    index = {start: at for at, (start, _) in enumerate(spans)}
    index |= {start + 1: at for at, (start, _) in enumerate(spans) if line[start] in "+-"}
    if not spans or _CODE.search(line) or _is_dump(line):
        return None
    moment, stamp = moments(line, index)
    text = line[: stamp[0]] + BREAK * (stamp[1] - stamp[0]) + line[stamp[1] :]
    text = _SOURCE.sub(lambda each: BREAK * len(each.group()), text)
    lasting: dict[int, Moment] = {}
    for duration, (start, end) in durations(text, index):
        lasting[start] = duration
        text = text[:start] + "\x01" * (end - start) + text[end:]
    counted = counters(text, index)
    for start, end in counted.spans:
        text = text[:start] + BREAK * (end - start) + text[end:]
    start, end = counted.hole
    text = text[:start] + " " * (end - start) + text[end:]
    if counted.cut >= 0:
        text = text[: counted.cut] + BREAK + text[counted.cut + 1 :]
    inside = _inside_names(text, spans)
    reader = _Reader(text, spans, inside)
    reader.read(spoken=bool(counted))
    elapsed: Moment | int | None = lasting.get(counted.elapsed)
    unit = 1.0
    for start, duration in lasting.items():
        said = re.search(r"([A-Za-z_][\w /-]*?)\s*[:=]\s*\[?$", text[:start])
        if elapsed is None and said and is_time(said[1]):
            elapsed = duration
    values = []
    for value, millis in reader.found:
        if elapsed is None and is_time(value.name):
            elapsed, unit = value.at, 0.001 if millis else 1.0
        values.append(value)
    prefix = text[: reader.first_name] if reader.found else text
    split = _split(line[: len(prefix)] if reader.found else line)
    # a star leads the sum of a validation, as in PyTorch's examples
    if not split and re.match(r"\s*\*\s", line):
        split = "val"
    named = sum(len(value.name.split()) for value in values)
    if (not values and not counted) or len(_WORD.findall(line)) - named > PROSE + 2 * len(values):
        return None
    fixed = tuple(sorted(reader.used_names))
    rank = _RANK.search(line)
    wrote = index.get(rank.start(rank.lastgroup or 0), -1) if rank else -1
    rank_at = -1 if wrote == counted.step else wrote  # CatBoost begins with its step
    return Parsed(len(spans), tuple(values), counted, moment, elapsed, unit, split, fixed, rank_at)


def _is_dump(line: str) -> bool:
    """Is it a dump of settings, and no record of training?"""
    return (
        len(_SETTING.findall(line)) > SETTINGS
        or (_ARGUMENTS.search(line) is not None and not _RECORD.search(line))
        or (_EPOCHS.search(line) is not None and not re.search(r"(?<![A-Za-z_])epoch\b", line))
    )


def _split(prefix: str) -> str:
    said = [each[1] for each in _SPLIT.finditer(prefix)]
    return split_of(said[-1]) if said else ""


def _inside_names(text: str, spans: list[tuple[int, int]]) -> set[int]:
    """The numbers that are part of a word, as in ``loss_q0``, ``Acc@1`` and ``mAP50-95``."""
    inside: set[int] = set()
    for at, (start, end) in enumerate(spans):
        before = text[start - 1 : start]
        joined = at - 1 in inside and spans[at - 1][1] == start
        letter = before.isalpha() or before in ("_", "@")
        leads = (
            re.match(r"[A-Za-z_][\w ]*\s*[:=]", text[end:])
            and not _UNIT.match(text, end)
            and not before.isspace()
        )
        if (
            (before and (letter or joined))
            or leads
            or (before == "-" and text[start - 2 : start - 1].isalpha())
        ):
            inside.add(at)
    return inside


class _Reader:
    """Finds the names of a line's numbers."""

    def __init__(self, text: str, spans: list[tuple[int, int]], inside: set[int]) -> None:
        self.text, self.spans, self.inside = text, spans, inside
        self.found: list[tuple[Value, bool]] = []
        self.first_name = len(text)
        self.used_names: set[int] = set()
        parts = [(each.end(), each[1]) for each in _PART.finditer(text)]
        self.parts = parts if len({part for _, part in parts}) > 1 else []

    def read(self, *, spoken: bool) -> None:
        end = 0
        for at, (start, stop) in enumerate(self.spans):
            if at in self.inside or self.text[start] in (BREAK, "\x01", " ") or start < end:
                continue
            gap, after = self.text[end:start], self.text[stop:]
            name = self._name(gap, after, spoken=spoken)
            of = -1
            if name and self._is_number(stop):
                of = self._share(at, stop) if role_of(name) == "metric" and known(name) else -1
                if _names_a_quantity(name):
                    self._keep(name, at, of, (end, start))
            elif spoken and gap.rstrip().endswith("|") and (unit := _NAMELESS.match(after)):
                self.found.append((Value(unit[1], at), unit[1] == "ms"))
            end = self.spans[of][1] if of >= 0 else stop
        if not self.found:
            self._read_backwards()

    def _keep(self, name: str, at: int, of: int, gap: tuple[int, int]) -> None:
        """Keeps a number with its name, which stands in the gap before it."""
        before, after = self.text[slice(*gap)].rstrip(" :="), self.text[self.spans[at][1] :]
        millis = re.match(r"\s?ms\b", after) or re.search(r"\(ms\)|_ms$|ms$", before)
        clean = re.sub(r"^[^\w(]+", "", name.encode("latin-1").decode("utf-8", "replace"))
        if millis and role_of(clean) == "loss":  # CatBoost's total: 110ms
            clean += " (ms)"
        part = [part for place, part in self.parts if place <= self.spans[at][0]]
        clean = f"{part[-1]}/{clean}" if part else clean
        again = sum(value.name.split(" (")[0] == clean for value, _ in self.found)
        clean = f"{clean} ({again + 1})" if again else clean
        self.found.append((Value(clean, at, of), bool(millis)))
        begin = self.text.rfind(name, *gap)
        self.first_name = min(self.first_name, begin)
        self.used_names |= {n for n in self.inside if begin <= self.spans[n][0] < gap[1]}

    def _read_backwards(self) -> None:
        """Names that stand behind their numbers: ``0.52 avg loss, 0.001 rate``."""
        for at, (start, stop) in enumerate(self.spans):
            behind = re.match(r"\s+([A-Za-z][A-Za-z_ ]{2,24}?)\s*(?=[,;|]|$)", self.text[stop:])
            if behind and known(behind[1]) and re.search(r"(?:^|[,;|:\x02])\s*$", self.text[:start]):
                self.found.append((Value(behind[1], at), False))
                self.first_name = min(self.first_name, start)

    def _name(self, gap: str, after: str, *, spoken: bool) -> str:
        signed = _SIGNED.search(gap)
        if signed and re.search(r"[:=]", signed.group()):
            name = _last_field(gap[: signed.start()])
            short = len(name) <= 60 and len(name.split()) <= 6
            return name if short and re.search(r"[A-Za-z\x80-\xff]", name) else ""
        spaced = _SPACED.search(gap)
        if not spaced:
            return ""
        field = _last_field(gap.rstrip().removesuffix("tensor("))
        parts = field.split()
        if not parts or parts[-1] not in gap:
            return ""
        keep = len(parts) - 1
        while keep and parts[keep - 1].lower() in _QUALIFIERS:
            keep -= 1
        name = " ".join(parts[keep:])
        if known(name) or (role_of(name) == "time" and spoken):
            return name
        ends = re.match(
            rf"\s?{_UNITS}?\s*(?:[,;|)\]}}]|$|\s-\s|\t|\s{{2,}}|\s+[A-Za-z_][\w/.@-]*\s+[-+]?[\d.])", after
        )
        return field if spoken and len(parts) <= 2 and ends and len(field) > 1 else ""

    def _is_number(self, stop: int) -> bool:
        """Is it a number by itself, not the beginning of a version, an address, a hash or a word?"""
        after = self.text[stop : stop + 2]
        if not after or not (after[0].isalnum() or after[0] in "_.:@"):
            return True
        if after[0] in "._@":
            return after[0] == "." and not after[1:].isalnum()
        if after[0] == ":":
            return not after[1:].isdigit()
        return _UNIT.match(self.text, stop) is not None

    def _share(self, at: int, stop: int) -> int:
        """The number that this one is a share of, or -1."""
        told = re.match(r"\s?/\s?(?=\d)", self.text[stop:])
        if told and at + 1 < len(self.spans) and self.spans[at + 1][0] == stop + told.end():
            return at + 1
        return -1


def _names_a_quantity(name: str) -> bool:
    plain = re.sub(r"[\s_]+", " ", name).lower()
    return not (_DROPPED.match(plain) or _PLACE.search(name) or is_step(name) or is_epoch(name))


def _last_field(gap: str) -> str:
    """The last words of what stands before a number: behind the last delimiter and the unit of the number before."""
    field = gap.rstrip(" \"'")
    cuts = list(_DELIMITER.finditer(field))
    field = field[cuts[-1].end() :] if cuts else _AFTER.sub("", field)
    field = field.strip(" \"'*#->.~/")
    return _LEVEL.sub("", field).strip()
