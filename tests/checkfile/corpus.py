"""Hostile pickles, in every opcode form and container; none of them is ever loaded by the tests."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

MARK = "touch hostile-was-run"
CODE = f"__import__('os').system({MARK!r})"


def _args(*values: object) -> bytes:
    return pickle.dumps(values, 2)[2:-1]


def reduce(module: str, name: str, *args: object) -> bytes:
    """A call, protocol 2: GLOBAL, arguments, REDUCE; without PROTO and STOP."""
    return f"c{module}\n{name}\n".encode() + _args(*args) + b"R"


def whole(body: bytes, proto: int = 2) -> bytes:
    return b"\x80" + bytes([proto]) + body + b"."


# (module, name, arguments): what is known to run commands, code or to load more, from scanners' lists and reports
CALLS: dict[str, tuple[str, str, tuple[object, ...]]] = {
    "os.system": ("os", "system", (MARK,)),
    "posix.system": ("posix", "system", (MARK,)),
    "nt.system": ("nt", "system", (MARK,)),
    "os.popen": ("os", "popen", (MARK,)),
    "os.execv": ("os", "execv", ("/bin/sh", ["sh"])),
    "subprocess.Popen": ("subprocess", "Popen", (["touch", "x"],)),
    "subprocess.check_output": ("subprocess", "check_output", (["touch", "x"],)),
    "builtins.eval": ("builtins", "eval", (CODE,)),
    "builtins.exec": ("builtins", "exec", (CODE,)),
    "python2 eval": ("__builtin__", "eval", (CODE,)),
    "python2 commands": ("commands", "getoutput", (MARK,)),
    "builtins.compile": ("builtins", "compile", (CODE, "x", "exec")),
    "builtins.__import__": ("builtins", "__import__", ("trainlab_canary",)),
    "builtins.open": ("builtins", "open", ("hostile-was-run", "w")),
    "builtins.getattr": ("builtins", "getattr", ("x", "__class__")),
    "importlib.import_module": ("importlib", "import_module", ("trainlab_canary",)),
    "runpy.run_path": ("runpy", "run_path", ("x.py",)),
    "runpy._run_code": ("runpy", "_run_code", (CODE, {})),
    "code.interpreter": ("code", "InteractiveInterpreter.runcode", (CODE,)),
    "timeit.timeit": ("timeit", "timeit", (CODE,)),
    "cProfile.run": ("cProfile", "run", (CODE,)),
    "profile.run": ("profile", "run", (CODE,)),
    "pdb.run": ("pdb", "run", (CODE,)),
    "bdb.run": ("bdb", "Bdb.run", (CODE,)),
    "trace.run": ("trace", "Trace.run", (CODE,)),
    "doctest.debug_script": ("doctest", "debug_script", (CODE,)),
    "pty.spawn": ("pty", "spawn", ("sh",)),
    "webbrowser.open": ("webbrowser", "open", ("http://localhost",)),
    "shutil.rmtree": ("shutil", "rmtree", ("nothing",)),
    "ctypes.CDLL": ("ctypes", "CDLL", ("libc.so.6",)),
    "pickle.loads": ("pickle", "loads", (whole(reduce("os", "system", MARK)),)),
    "_pickle.loads": ("_pickle", "loads", (b"",)),
    "marshal.loads": ("marshal", "loads", (b"",)),
    "types.CodeType": ("types", "CodeType", ()),
    "types.FunctionType": ("types", "FunctionType", ()),
    "functools.reduce": ("functools", "reduce", ()),
    "operator.attrgetter": ("operator", "attrgetter", ("system",)),
    "operator.methodcaller": ("_operator", "methodcaller", ("system", MARK)),
    "itertools.starmap": ("itertools", "starmap", ()),
    "socket.socket": ("socket", "socket", ()),
    "urllib.urlopen": ("urllib.request", "urlopen", ("http://localhost",)),
    "http.client": ("http.client", "HTTPSConnection", ("localhost",)),
    "ssl.certificate": ("ssl", "get_server_certificate", (("localhost", 1),)),
    "asyncio.shell": ("asyncio", "create_subprocess_shell", (MARK,)),
    "multiprocessing": ("multiprocessing.util", "spawnv_passfds", ()),
    "pydoc.pipepager": ("pydoc", "pipepager", ("x", MARK)),
    "pydoc.locate": ("pydoc", "locate", ("trainlab_canary",)),
    "pkgutil.resolve_name": ("pkgutil", "resolve_name", ("os:system",)),
    "uuid._get_command_stdout": ("uuid", "_get_command_stdout", ("touch", "x")),
    "imaplib.IMAP4_stream": ("imaplib", "IMAP4_stream", (MARK,)),
    "logging.FileHandler": ("logging", "FileHandler", ("hostile-was-run",)),
    "_io.FileIO": ("_io", "FileIO", ("hostile-was-run", "w")),
    "ensurepip": ("ensurepip", "_run_pip", ([],)),
    "venv.create": ("venv", "create", ("x",)),
    "test.script_helper": ("test.support.script_helper", "assert_python_ok", ("-c", CODE)),
    "idlelib": ("idlelib.run", "Executive.runcode", (CODE,)),
    "lib2to3": ("lib2to3.pgen2.grammar", "Grammar.loads", (b"",)),
    "distutils": ("distutils.file_util", "write_file", ("x", [])),
    "zipimport": ("zipimport", "zipimporter", ("x",)),
    "sys.settrace": ("sys", "settrace", ()),
    "gc.get_objects": ("gc", "get_objects", ()),
    "pip": ("pip", "main", ([],)),
    "numpy.runstring": ("numpy.testing._private.utils", "runstring", (CODE, {})),
    "numpy.f2py": ("numpy.f2py.crackfortran", "getlincoef", (CODE, {})),
    "numpy.load": ("numpy", "load", ("x.npy",)),
    "pandas.read_pickle": ("pandas", "read_pickle", ("x.pkl",)),
    "joblib.load": ("joblib", "load", ("x",)),
    "dill.loads": ("dill", "loads", (b"",)),
    "cloudpickle": ("cloudpickle.cloudpickle", "_make_function", ()),
    "torch.load": ("torch", "load", ("x.pt",)),
    "torch.serialization.load": ("torch.serialization", "load", ("x.pt",)),
    "torch.hub.load": ("torch.hub", "load", ("a/b", "c")),
    "torch.jit.load": ("torch.jit", "load", ("x.pt",)),
    "torch.ops.load_library": ("torch.ops", "load_library", ("x.so",)),
    "torch.collect_env": ("torch.utils.collect_env", "run", (MARK,)),
    "torch.compile_file": ("torch._inductor.codecache", "compile_file", ("", "", [MARK])),
    "torch.fx": ("torch.fx.graph_module", "reduce_graph_module", ({},)),
    "torch os.system": ("torch.serialization", "os.system", (MARK,)),
    "torch sys": ("torch.serialization", "sys.modules", ()),
    "torch dunder": ("torch.nn.Module", "__init__.__globals__", ()),
    "sympy": ("sympy.core.sympify", "sympify", (CODE,)),
    "yaml.unsafe_load": ("yaml", "unsafe_load", ("x",)),
    "unknown module": ("trainlab_canary", "boom", ()),
}
UNKNOWN = {"unknown module"}  # nobody can call it dangerous by its name: it needs allowing


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _short(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


SYSTEM = b"cos\nsystem\n"
ARG = b"(" + _text(MARK) + b"t"

# the same call by every way that the pickle machine has to make it
FORMS: dict[str, bytes] = {
    "STACK_GLOBAL": whole(_short("os") + _short("system") + b"\x93" + ARG + b"R", 4),
    "INST": b"(" + _text(MARK) + b"ios\nsystem\n.",
    "OBJ": whole(b"(" + SYSTEM + _text(MARK) + b"o"),
    "NEWOBJ": whole(b"csubprocess\nPopen\n" + ARG + b"\x81"),
    "NEWOBJ_EX": whole(b"csubprocess\nPopen\n" + ARG + b"}\x92", 4),
    "BUILD setstate": whole(
        b"ctrainlab_canary\nThing\n)R}" + _text("__setstate__") + SYSTEM + b"sb" + _text(MARK) + b"b"
    ),
    "BUILD on a class": whole(b"ccollections\nOrderedDict\nN}" + _text("__init__") + SYSTEM + b"s\x86b"),
    "EXT1": whole(b"\x82\x11" + ARG + b"R"),
    "EXT2": whole(b"\x83\x11\x01" + ARG + b"R"),
    "EXT4": whole(b"\x84\x11\x01\x01\x00" + ARG + b"R"),
    "memo name": whole(
        _text("os") + b"q\x00" + _text("system") + b"q\x01" + b"00h\x00h\x01\x93" + ARG + b"R", 4
    ),
    "memo replaced": whole(
        _text("collections")
        + b"q\x000"
        + _text("os")
        + b"q\x000h\x00"
        + _text("system")
        + b"\x93"
        + ARG
        + b"R",
        4,
    ),
    "computed name": whole(
        b"cbuiltins\nstr\n(" + _text("os") + b"tR" + _text("system") + b"\x93" + ARG + b"R", 4
    ),
    "DUP and POP": whole(SYSTEM + b"2" + ARG + b"R00" + b"}"),
    "result thrown away": whole(b"}q\x00" + SYSTEM + ARG + b"R0"),
    "in a key": whole(b"}" + SYSTEM + ARG + b"RK\x01s"),
    "in a set": whole(b"\x8f(" + SYSTEM + ARG + b"R\x90", 4),
    "in a persistent id": whole(b"(" + _text("storage") + SYSTEM + ARG + b"RtQ"),
    "in a tensor": whole(
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + SYSTEM
        + ARG
        + b"RK\x00)) \x89Nt"[:-3].replace(b" ", b"")
        + b"tR"
    ),
    "broken after": b"\x80\x02" + SYSTEM + ARG + b"R\xff\xff",
    "cut after": b"\x80\x02" + SYSTEM + ARG + b"R",
    "empty stack after": whole(SYSTEM + ARG + b"R0000R"),
    "protocol 0": b"cos\nsystem\n(S'" + MARK.encode() + b"'\ntR.",
    "protocol 1 text": b"(S'" + MARK.encode() + b"'\nios\nsystem\n.",
    "second pickle": whole(b"}") + whole(SYSTEM + ARG + b"R"),
    "partial": whole(b"cfunctools\npartial\n(" + SYSTEM + b"tR" + ARG + b"R"),
    "map": whole(b"cbuiltins\nmap\n(" + SYSTEM + b"](" + _text(MARK) + b"etR"),
    "getattr chain": whole(
        b"cbuiltins\ngetattr\n(ctorch.serialization\nSerializer\n" + _text("os") + b"tR" + ARG + b"R"
    ),
    "getattr of a module": whole(
        b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n("
        + _text("os")
        + b"tR"
        + _text("system")
        + b"tR"
        + ARG
        + b"R"
    ),
    "call of a call": whole(b"ctrainlab_canary\nmaker\n)R" + ARG + b"R"),
    "dotted name": whole(_short("torch") + _short("serialization.os.system") + b"\x93" + ARG + b"R", 4),
    "twice PROTO": b"\x80\x02\x80\x04" + SYSTEM + ARG + b"R.",
    "FRAME lies": whole(b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f" + SYSTEM + ARG + b"R", 4),
}

LAUGHS = (
    b"]q\x00" + b"".join(b"](" + b"h\x00" * 10 + b"eq\x00" for _ in range(200)) + b"0" * 201 + b"h\x00"
)  # one list
SIZES = b"(" + (b"\x8b" + struct.pack("<i", 500) + b"\x7f" * 500) * 20_000 + b"t"  # whose product is of 10 MB


def _called(module: str, name: str, *parts: bytes) -> bytes:
    """A call with arguments that are pickled already."""
    return whole(f"c{module}\n{name}\n(".encode() + b"".join(parts) + b"tR")


BOMBS: dict[str, Callable[[], bytes]] = {
    "string of negative length": lambda: whole(b"T\xfb\xff\xff\xff"),
    "integer of negative length": lambda: whole(b"\x8b\xfb\xff\xff\xff"),
    "laughs as a Decimal": lambda: _called("decimal", "Decimal", LAUGHS),
    "laughs as a device": lambda: _called("torch", "device", LAUGHS),
    "laughs as a path": lambda: _called("pathlib", "PosixPath", LAUGHS),
    "laughs as a slice": lambda: _called("builtins", "slice", LAUGHS),
    "laughs as an enum": lambda: _called("builtins", "getattr", LAUGHS, _text("a")),
    "laughs as a dtype": lambda: _called("numpy", "dtype", LAUGHS),
    "laughs as a time zone": lambda: _called(
        "datetime", "datetime", b"C\x0a" + bytes([7, 232] + [1] * 8), LAUGHS
    ),
    "laughs as a class": lambda: _called("copyreg", "__newobj__", LAUGHS),
    "laughs as a subclass": lambda: _called(
        "torch._utils", "_rebuild_wrapper_subclass", LAUGHS, b"ctorch\nfloat32\n", b"))K\0"
    ),
    "laughs that are called": lambda: whole(LAUGHS + b")R"),
    "laughs as a module's name": lambda: whole(LAUGHS + _text("a") + b"\x93", 4),
    "laughs as a name": lambda: whole(_text("a") + LAUGHS + b"\x93", 4),
    "laughs as keywords": lambda: whole(b"ca\nb\n)" + LAUGHS + b"\x92", 4),
    "laughs as a storage's key": lambda: _called(
        "torch._utils",
        "_rebuild_tensor_v2",
        b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + LAUGHS + LAUGHS + b"K\1tQK\0))\x89N",
    ),
    "laughs as a dict's key": lambda: whole(b"}ccollections\nOrderedDict\n)R" + _text("a") + LAUGHS + b"sNs"),
    "colliding keys of a call": lambda: whole(
        b"ccollections\nOrderedDict\n)R("
        + b"".join(b"\x8a\x0b" + (k * (2**61 - 1)).to_bytes(11, "little") + b"N" for k in range(1, 60_000))
        + b"u"
    ),
    "many names, twice": lambda: 2 * whole(b"".join(b"ca%d\nb\n0" % n for n in range(30_000)) + b"N"),
    "many huge sizes": lambda: _called(
        "torch._utils", "_rebuild_meta_tensor_no_storage", b"ctorch\nfloat32\n", SIZES, b")\x89"
    ),
    "an array of huge sizes": lambda: _called(
        "numpy.core.numeric",
        "_frombuffer",
        b"C\x01acnumpy\ndtype\n" + _text("f4") + b"\x85R" + SIZES + _text("C"),
    ),
    "a nested tuple as a size": lambda: _called(
        "torch._utils",
        "_rebuild_meta_tensor_no_storage",
        b"ctorch\nfloat32\n(" + b")" + b"\x85" * 500_000 + b"t)\x89",
    ),
    "memo index": lambda: whole(b"Nr\xff\xff\xff\x7f"),
    "deep lists": lambda: whole(b"]" * 400_000 + b"a" * 399_999),
    "deep tuples": lambda: whole(b")" + b"\x85" * 800_000),
    "deep tuple as key": lambda: whole(b"})" + b"\x85" * 500_000 + b"Ns"),
    "key of exponential size": lambda: whole(b"}" + b"K\x01" + b"2\x86" * 300 + b"Ns"),
    "laughs": lambda: whole(b"]q\x00" + b"".join(b"](" + b"h\x00" * 10 + b"eq\x00" for _ in range(200))),
    "huge integer": lambda: whole(b"\x8b" + struct.pack("<i", 3_000_000) + b"\x7f" * 3_000_000),
    "integer that claims 2 GB": lambda: whole(b"\x8b\xff\xff\xff\x7f"),
    "bytes that claim 2**60": lambda: whole(b"\x8e" + struct.pack("<Q", 2**60), 4),
    "text that claims 4 GB": lambda: whole(b"X\xff\xff\xff\xff"),
    "decimal": lambda: b"L" + b"9" * 60_000 + b"L\n.",
    "colliding keys": lambda: whole(
        b"}("
        + b"".join(b"\x8a\x0b" + (k * (2**61 - 1)).to_bytes(11, "little") + b"N" for k in range(1, 60_000))
        + b"u"
    ),
    "marks": lambda: whole(b"(" * 2_000_000),
    "deep calls": lambda: whole(
        b"".join(b"ccollections\nOrderedDict\n" for _ in range(1))
        + b")R"
        + b"0ccollections\nOrderedDict\n)R" * 60_000
    ),
    "nested calls": lambda: whole(b"ca\nb\n" * 60_000 + b")" + b"\x85R" * 59_999),
    "self": lambda: whole(b"]q\x00h\x00ah\x00a"),
    "many steps": lambda: whole(b"N0" * 3_500_000 + SYSTEM + ARG + b"R"),
}


def payloads() -> dict[str, bytes]:
    """Every hostile pickle that is no bomb."""
    return {name: whole(reduce(module, what, *args)) for name, (module, what, args) in CALLS.items()} | FORMS


# --- containers


def as_pickle(body: bytes, path: Path) -> None:
    path.write_bytes(body)


def as_zip(body: bytes, path: Path, *, compressed: bool = False, name: str = "archive/data.pkl") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as file:
        file.writestr(name, body)
        file.writestr("archive/byteorder", "little")
        file.writestr("archive/version", "3\n")


def as_compressed_zip(body: bytes, path: Path) -> None:
    as_zip(body, path, compressed=True)


def as_zip_with_bad_crc(body: bytes, path: Path) -> None:
    as_zip(body, path)
    good = struct.pack("<I", zlib.crc32(body))
    path.write_bytes(path.read_bytes().replace(good, b"\xde\xad\xbe\xef"))


def as_second_record(body: bytes, path: Path) -> None:
    """Two records of one name: the harmless one first, the hostile one last."""
    _doubled(path, whole(b"}"), body)


def as_first_record(body: bytes, path: Path) -> None:
    _doubled(path, body, whole(b"}"))


def _doubled(path: Path, first: bytes, second: bytes) -> None:
    import warnings

    with zipfile.ZipFile(path, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.writestr("archive/data.pkl", first)
        file.writestr("archive/data.pkl", second)
        file.writestr("archive/version", "3\n")


def as_encrypted_zip(body: bytes, path: Path) -> None:
    """The bit that says "encrypted" set in both headers: readers that believe it see nothing."""
    as_zip(body, path)
    raw = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.find(signature)
        while at >= 0:
            raw[at + place] |= 1
            at = raw.find(signature, at + 4)
    path.write_bytes(raw)


def as_zip_with_two_names(body: bytes, path: Path) -> None:
    """The local header has another name than the directory."""
    as_zip(body, path)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"archive/data.pkl", b"archive/data.txt", 1))


def as_legacy(body: bytes, path: Path) -> None:
    head = (
        pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        + pickle.dumps(1001, 2)
        + pickle.dumps({"little_endian": True}, 2)
    )
    path.write_bytes(head + body + pickle.dumps([], 2))


def as_legacy_header(body: bytes, path: Path) -> None:
    """In the third pickle of a legacy file, where the machine is described."""
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    path.write_bytes(head + body + pickle.dumps({}, 2) + pickle.dumps([], 2))


def as_tar(body: bytes, path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in (
            ("sys_info", b"x"),
            ("pickle", body),
            ("storages", whole(b"K\x00")),
            ("tensors", whole(b"K\x00")),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


CONTAINERS: dict[str, Callable[[bytes, Path], None]] = {
    "zip": as_zip,
    "bad CRC": as_zip_with_bad_crc,
    "second record": as_second_record,
    "first record": as_first_record,
    "compressed": as_compressed_zip,
    "encrypted": as_encrypted_zip,
    "two names": as_zip_with_two_names,
    "legacy": as_legacy,
    "legacy header": as_legacy_header,
    "tar": as_tar,
    "pickle": as_pickle,
}
