"""How dangerous is a name that a pickle asks for? Judged by the name alone, without importing it.

Three grades, as torch's own weights-only loading has them, with its "no" split in two: what is merely not on its
list, and what nobody has a reason to put into a checkpoint. The standard library is known as a whole: what is not
among the plain values below is dangerous, so that no list of gadgets has to be complete.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from trainlab.subjects.checkfile.known import PATHS
from trainlab.subjects.checkfile.stubs import Call, Document, Name

__all__ = ["Global", "Grade", "global_names", "grade", "worst"]


class Grade(StrEnum):
    """What loading a name would take."""

    HARMLESS = "harmless"
    """torch.load allows it by itself."""
    NEEDS_ALLOWING = "needs allowing"
    """Not on torch's list; a class or function of the project or of a library."""
    DANGEROUS = "dangerous"
    """Runs commands, imports, reads files or reaches such things; no checkpoint needs it."""


@dataclass(frozen=True)
class Global:
    """A name that the pickle would import, and its grade."""

    name: str
    grade: Grade
    record: str = ""
    """The record of the archive that asks for it."""

    def __str__(self) -> str:
        return f"{self.name} ({self.grade})"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What weights-only loading allows by default: torch/_weights_only_unpickler.py, _get_allowed_globals (torch 2.13).
_KINDS = [
    "BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short", "ComplexDouble", "ComplexFloat",
    "QInt32", "QInt8", "QUInt2x4", "QUInt4x2", "QUInt8",
]  # fmt: skip
_DTYPES = (
    "bfloat16 bool complex128 complex32 complex64 float16 float32 float64 float4_e2m1fn_x2 float8_e4m3fn float8_e4m3fnuz "
    "float8_e5m2 float8_e5m2fnuz float8_e8m0fnu bits16 bits1x8 bits2x4 bits4x2 bits8 int16 int32 int64 int8 uint16 uint32 "
    "uint64 uint8 int1 int2 int3 int4 int5 int6 int7 uint1 uint2 uint3 uint4 uint5 uint6 uint7 qint32 qint8 quint2x4 "
    "quint4x2 quint8 per_channel_affine per_channel_affine_float_qparams per_channel_symmetric per_tensor_affine "
    "per_tensor_symmetric"
)
_REBUILT = (
    "tensor tensor_v2 tensor_v3 parameter parameter_with_state qtensor sparse_tensor nested_tensor wrapper_subclass "
    "meta_tensor_no_storage device_tensor_from_cpu_tensor device_tensor_from_numpy"
)
_TENSORS = [f"{kind}Tensor" for kind in _KINDS[:10]]
_ALLOWED: dict[str, frozenset[str]] = {
    "_codecs": frozenset({"encode"}),
    "builtins": frozenset({"bytearray", "complex", "set"}),
    "collections": frozenset({"Counter", "OrderedDict"}),
    "torch": frozenset([*_DTYPES.split(), "Size", "Tensor", "device", *_TENSORS, *(f"{kind}Storage" for kind in _KINDS)]),
    "torch.cuda": frozenset(f"{kind}{what}" for kind in _KINDS[:12] for what in ("Storage", "Tensor")),
    "torch.sparse": frozenset(_TENSORS),
    "torch.cuda.sparse": frozenset(_TENSORS),
    "torch._tensor": frozenset({"_rebuild_from_type_v2"}),
    "torch._utils": frozenset(f"_rebuild_{what}" for what in _REBUILT.split()),
    "torch.nn.parameter": frozenset({"Parameter"}),
    "torch.serialization": frozenset({"_get_layout"}),
    "torch.storage": frozenset({"TypedStorage", "UntypedStorage"}),
}  # fmt: skip

# The standard library's plain values: they do nothing when they are made, or only hold what is inside. What a partial
# would call is graded by itself, and so is calling it.
_PLAIN_STDLIB: dict[str, frozenset[str]] = {
    module: _words(names)
    for module, names in {
        "argparse": "Namespace",
        "array": "array _array_reconstructor",
        "builtins": "object int float str bool bytes list tuple dict frozenset slice range NoneType Ellipsis NotImplemented "
        "Exception ValueError TypeError KeyError RuntimeError",
        "collections": "defaultdict deque ChainMap UserDict UserList",
        "copyreg": "_reconstructor __newobj__ __newobj_ex__",
        "datetime": "datetime date time timedelta timezone",
        "decimal": "Decimal",
        "enum": "Enum IntEnum StrEnum Flag",
        "fractions": "Fraction",
        "functools": "partial",
        "logging": "getLogger Logger",
        "pathlib": " ".join(PATHS),
        "pathlib._local": " ".join(PATHS),
        "random": "Random",
        "re": "_compile",
        "types": "SimpleNamespace MappingProxyType NoneType GenericAlias",
        "typing": "Any Union Optional List Dict Tuple",
        "uuid": "UUID SafeUUID",
        "zoneinfo": "ZoneInfo._unpickle",
    }.items()
}

# Libraries' ways to run, import or load: a prefix of the dotted name, up to a dot.
_GADGETS = tuple(
    f"{gadget}."
    for gadget in _words(
        "IPython _pytest aiohttp boto3 cloudpickle dask dill distutils fabric fire fsspec httpx huggingface_hub "
        "idlelib invoke jinja2 joblib lib2to3 mako nbconvert numba numpy.ctypeslib numpy.distutils numpy.f2py "
        "numpy.load numpy.testing numpy.lib.npyio numpy.memmap pandas.compat.pickle_compat pandas.eval "
        "pandas.io.pickle pandas.read_pickle paramiko pexpect pip pkg_resources psutil ptyprocess pydash pytest "
        "requests setuptools sh skops sympy.parsing sympy.sympify sympy.core.sympify torch._C._jit "
        "torch._dynamo.guards torch._inductor torch.compile torch._jit_internal torch.classes.load_library "
        "torch.distributed.elastic torch.distributed.launch torch.distributed.rpc torch.distributed.run torch.fx "
        "torch.hub torch.jit torch.load torch.ops torch.package torch.serialization.load "
        "torch.storage._load_from_bytes torch.testing torch.utils._config_module torch.utils.bottleneck "
        "torch.utils.collect_env torch.utils.cpp_extension torch.utils.data.datapipes torch.utils.model_zoo "
        "triton urllib3 wheel xonsh yaml.load yaml.unsafe_load yaml.full_load zmq paddle.load mlflow "
        "tensorflow.io"
    )
)
# of Python 2, of later or earlier 3s, or not listed among the standard modules
_OTHER_STDLIB = _words(
    "__builtin__ test _pyrepl commands cPickle httplib urllib2 popen2 imp asyncore nntplib telnetlib"
)

# In whatever module they are found: often imported there from somewhere worse.
_RUNNERS = _words(
    "system popen exec eval execfile execv execve execvp spawn spawnl spawnv check_output check_call getoutput "
    "getstatusoutput run_code run_path run_module runcode runstring runctx runsource exec_module load_module "
    "import_module __import__ compile open fdopen urlopen urlretrieve unlink rmtree remove startfile loads Popen FileIO "
    "CDLL getattr setattr delattr globals locals vars input breakpoint exit _exit apply load_library resolve_name"
)

# standard modules that others import at their top, so that their name alone is a way in
_MODULES = _words("os sys subprocess builtins pickle importlib shutil socket io runpy ctypes types inspect")


def grade(module: str, name: str) -> Grade:
    """Grades one name, ``("os", "system")``."""
    if name in _ALLOWED.get(module, ()):
        return Grade.HARMLESS
    if module.startswith(
        "__torch__."
    ):  # TorchScript's own types: its loader compiles them, and imports nothing
        return Grade.HARMLESS
    parts = name.split(".")
    root = module.partition(".")[0]
    if root in sys.stdlib_module_names or root in _OTHER_STDLIB:
        return Grade.NEEDS_ALLOWING if name in _PLAIN_STDLIB.get(module, ()) else Grade.DANGEROUS
    if module == "torch.jit._pickle":  # typed lists inside TorchScript archives
        return Grade.NEEDS_ALLOWING
    if f"{module}.{name}.".startswith(_GADGETS):
        return Grade.DANGEROUS
    # a dotted name walks attributes: torch.serialization + "os.system" is os.system
    stray = any(
        part in sys.stdlib_module_names and part[:1].islower()
        for part in parts
        if len(parts) > 1 or part in _MODULES
    )
    dunder = any(part.startswith("__") and part.endswith("__") for part in parts)
    return Grade.DANGEROUS if stray or dunder or parts[-1] in _RUNNERS else Grade.NEEDS_ALLOWING


def global_names(document: Document, record: str = "") -> list[Global]:
    """Every foreign name of a pickle with its grade, and every odd thing it does as a dangerous one."""
    found = [
        Global(f"{module}.{name}", _member_grade(document, module, name), record)
        for module, name in document.names
    ]
    return found + [Global(odd, Grade.DANGEROUS, record) for odd in dict.fromkeys(document.odd)]


def _member_grade(document: Document, module: str, name: str) -> Grade:
    """The grade of a name; ``getattr(Colour, "RED")``, as Python 3.11 pickles an enum, is no way into a module."""
    asked = document.lookups if (module, name) == ("builtins", "getattr") else []
    if asked and all(map(_is_member, asked)):
        return Grade.NEEDS_ALLOWING
    return grade(module, name)


def _is_member(args: tuple[object, ...]) -> bool:
    if len(args) != 2 or not isinstance(args[1], str):
        return False
    owner, member = args[0], args[1]
    plain = not member.startswith("_") and member not in _RUNNERS and member not in sys.stdlib_module_names
    if isinstance(owner, Name):
        return plain and grade(owner.module, owner.name) is not Grade.DANGEROUS and owner.name[:1].isupper()
    return plain and isinstance(owner, Call) and isinstance(owner.of, Name) and owner.of.name[:1].isupper()


def worst(names: Iterable[Global]) -> Grade:
    """The highest grade among names; harmless where there are none."""
    order = list(Grade)
    return max((each.grade for each in names), key=order.index, default=Grade.HARMLESS)
