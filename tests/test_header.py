"""The header, the text that cffi reads and the library say the same; and the header is a manual
in which nothing is missing and nothing is made up."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import cffi
import pytest

from remotemedia import native

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "include/remotemedia.h"
TEXT = HEADER.read_text(encoding="utf-8")
COMMENTS = re.findall(r"/\*.*?\*/", TEXT, re.DOTALL)
CODE = re.sub(r"/\*.*?\*/|//[^\n]*", "", TEXT, flags=re.DOTALL)
CFFI = (ROOT / "include/remotemedia_cffi.h").read_text(encoding="utf-8")

# Functions of no type.
OF_NO_TYPE = {
    "rm_abi_version",
    "rm_build_info",
    "rm_call_clear",
    "rm_clear",
    "rm_run_manifest",
    "rm_set_log",
}

# Types that are not ours: their names are the standard's.
OF_DLPACK = {"DLDataType", "DLDevice", "DLManagedTensorVersioned", "DLPackVersion", "DLTensor"}

Tool = Callable[[str], str]


def functions(code: str) -> set[str]:
    """The functions that a text without comments declares."""
    return set(re.findall(r"\b(\w+)\((?!\*)[^()]*\);", code))


def types(code: str) -> set[str]:
    return set(re.findall(r"^(?:typedef .*?|\} )\(?\*?(\w+)(?:;|\)\()", code, re.MULTILINE))


def macros(code: str) -> set[str]:
    return set(re.findall(r"^#define (\w+)", code, re.MULTILINE))


def output(*command: Any) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def library() -> str:
    """The library as it is shipped."""
    if not native.is_available():
        pytest.fail("the native library is missing")
    return native.library_path()


@pytest.mark.timeout(1800)  # cargo may have to build first
def test_what_is_generated_is_up_to_date(tool: Tool) -> None:
    command = [tool("cargo"), "run", "--quiet", "--locked", "--package", "remotemedia-header"]
    done = subprocess.run(
        [*command, "--", "--check"], cwd=ROOT / "rust-core", capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("compiler", "language"), [("gcc", "c99"), ("gcc", "c17"), ("g++", "c++11"), ("g++", "c++17")]
)
def test_the_header_stands_alone(compiler: str, language: str, tool: Tool, tmp_path: Path) -> None:
    """It compiles first of all, twice in a file, and in two files of one program."""
    suffix = ".c" if compiler == "gcc" else ".cpp"
    include = "#include <remotemedia.h>\n#include <remotemedia.h>\n"
    one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    one.write_text(include + "rm_status one(void);\nrm_status one(void) { return RM_OK; }\n")
    two.write_text(
        include + "rm_status one(void);\nint main(void) { rm_view view; view.pts_us = RM_NO_PTS;"
        " return one() == RM_OK && view.pts_us < 0 ? 0 : 1; }\n"
    )
    strict = [f"-std={language}", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    output(tool(compiler), *strict, f"-I{HEADER.parent}", one, two, "-o", tmp_path / "both")
    output(tmp_path / "both")


def test_a_program_in_cpp_links(library: str, tool: Tool, tmp_path: Path) -> None:
    source, folder = tmp_path / "program.cpp", Path(library).parent
    source.write_text(
        "#include <remotemedia.h>\n"
        "int main() { return rm_abi_version() >> 16 == RM_ABI_MAJOR ? 0 : 1; }\n"
    )
    link = [f"-L{folder}", f"-l:{Path(library).name}", f"-Wl,-rpath,{folder}"]
    output(tool("g++"), f"-I{HEADER.parent}", source, "-o", tmp_path / "program", *link)
    output(tmp_path / "program")


def test_a_node_in_cpp(library: str, tool: Tool, tmp_path: Path) -> None:
    """A lambda that catches nothing is a callback as good as any other."""
    source, folder = tmp_path / "node.cpp", Path(library).parent
    source.write_text(
        """#include <remotemedia.h>
#include <cstdio>
#include <string>
int main() {
    rm_node_vtable vtable = rm_node_vtable();
    vtable.struct_size = sizeof vtable;
    vtable.process = [](void *, const rm_data *input, rm_task *task) {
        rm_status status = rm_task_emit(task, input, nullptr);
        if (status == RM_OK) status = rm_task_emit(task, input, nullptr);
        rm_task_finish(task, status, nullptr);
    };
    const std::string manifest =
        R"({"version": "v1", "nodes": [{"id": "n", "node_type": "Twice"}]})";
    rm_data *result = nullptr;
    rm_view view = rm_view();
    view.struct_size = sizeof view;
    if (rm_runtime_add_node(nullptr, "Twice", 5, &vtable, nullptr, nullptr) != RM_OK ||
        rm_run_manifest(manifest.data(), manifest.size(), "[1, 2]", 6, &result, nullptr) != RM_OK ||
        rm_data_view(result, &view, nullptr) != RM_OK)
        return 1;
    std::puts(view.json);
    rm_data_free(result);
}
"""
    )
    strict = ["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    link = [f"-L{folder}", f"-l:{Path(library).name}", f"-Wl,-rpath,{folder}"]
    output(tool("g++"), *strict, f"-I{HEADER.parent}", source, "-o", tmp_path / "node", *link)
    assert output(tmp_path / "node") == "[1,1,2,2]\n"


def test_the_library_exports_the_header_and_nothing_else(library: str, tool: Tool) -> None:
    symbols = output(tool("nm"), "-D", "--defined-only", "--format=posix", library)
    exported = {line.split()[0] for line in symbols.splitlines()}
    assert exported == functions(CODE) == functions(CFFI)
    assert "rm_test_panic" not in exported
    assert len(exported) > 25


def test_every_name_has_the_prefix() -> None:
    assert all(name.startswith("rm_") for name in functions(CODE) | types(CODE) - OF_DLPACK)
    assert all(name.startswith("RM_") for name in macros(CODE) - {"REMOTEMEDIA_H"})
    assert types(CODE) == types(CFFI) >= OF_DLPACK
    assert macros(CODE) - macros(CFFI) == {"REMOTEMEDIA_H", "RM_NO_PTS"}  # no plain number


@pytest.mark.skipif(sys.platform != "linux", reason="about ELF")
def test_the_library_is_named_by_its_abi_and_stays_loaded(library: str, tool: Tool) -> None:
    dynamic = output(tool("readelf"), "--dynamic", "--wide", library)
    major = re.search(r"^#define RM_ABI_MAJOR (\d+)$", CODE, re.MULTILINE)
    assert major
    assert f"soname: [libremotemedia.so.{major[1]}]" in dynamic
    assert re.search(r"\(FLAGS_1\).*\bNODELETE\b", dynamic)
    needed = set(re.findall(r"\(NEEDED\).*\[(.+?)[.-]", dynamic))
    assert needed <= {"libc", "libm", "libgcc_s", "ld"}, "the library brings what it needs"


#: As DLPack's own header declares them, from version 1.0 on, up to what we use; before 1.0 there
#: was no struct with a version.
DLPACK_OLD = """
#ifndef DLPACK_DLPACK_H_
#define DLPACK_DLPACK_H_
#include <stdint.h>
typedef enum { kDLCPU = 1, kDLCUDA = 2 } DLDeviceType;
typedef struct { DLDeviceType device_type; int32_t device_id; } DLDevice;
typedef struct { uint8_t code; uint8_t bits; uint16_t lanes; } DLDataType;
typedef struct { void *data; DLDevice device; int32_t ndim; DLDataType dtype; int64_t *shape;
                 int64_t *strides; uint64_t byte_offset; } DLTensor;
typedef struct DLManagedTensor { DLTensor dl_tensor; void *manager_ctx;
                                 void (*deleter)(struct DLManagedTensor *self); } DLManagedTensor;
"""
DLPACK = {
    "before 1.0": DLPACK_OLD + "#endif\n",
    "1": DLPACK_OLD
    + """
typedef struct { uint32_t major; uint32_t minor; } DLPackVersion;
struct DLManagedTensorVersioned { DLPackVersion version; void *manager_ctx;
    void (*deleter)(struct DLManagedTensorVersioned *self); uint64_t flags; DLTensor dl_tensor; };
#endif
""",
}


@pytest.mark.parametrize("compiler", ["gcc", "g++"])
@pytest.mark.parametrize("version", DLPACK)
def test_it_gets_on_with_dlpacks_own_header(
    version: str, compiler: str, tool: Tool, tmp_path: Path
) -> None:
    (tmp_path / "dlpack.h").write_text(DLPACK[version])
    source = tmp_path / ("both.c" if compiler == "gcc" else "both.cpp")
    source.write_text(
        '#include "dlpack.h"\n#include <remotemedia.h>\n#include "dlpack.h"\n'
        "int main(void) { struct DLManagedTensorVersioned *tensor = 0; rm_data *data = 0;"
        " DLTensor one; one.device.device_type = kDLCPU;"
        " return rm_data_from_dlpack(tensor, &data, 0) + (int)one.device.device_type; }\n"
    )
    language = "-std=c99" if compiler == "gcc" else "-std=c++11"
    strict = [language, "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    output(tool(compiler), *strict, f"-I{HEADER.parent}", "-c", source, "-o", tmp_path / "both.o")


def test_a_tensor_of_dlpack_is_laid_out_as_the_standard_has_it(tool: Tool, tmp_path: Path) -> None:
    fields = ["version", "manager_ctx", "deleter", "flags", "dl_tensor", "dl_tensor.device",
              "dl_tensor.ndim", "dl_tensor.dtype", "dl_tensor.dtype.lanes", "dl_tensor.shape",
              "dl_tensor.strides", "dl_tensor.byte_offset"]  # fmt: skip
    prints = "".join(
        f'printf("{name} %zu\\n", offsetof(struct DLManagedTensorVersioned, {name}));'
        for name in fields
    )
    layouts = []
    for name, include in {"theirs": '#include "dlpack.h"\n', "ours": ""}.items():
        (tmp_path / "dlpack.h").write_text(DLPACK["1"])
        source, probe = tmp_path / f"{name}.c", tmp_path / name
        source.write_text(
            f"{include}#include <remotemedia.h>\n#include <stdio.h>\nint main(void) {{ {prints}"
            ' printf("%zu\\n", sizeof(struct DLManagedTensorVersioned)); return 0; }\n'
        )
        output(tool("gcc"), f"-I{HEADER.parent}", source, "-o", probe)
        layouts.append(output(probe))
    assert layouts[0] == layouts[1]


@pytest.mark.parametrize(
    "struct", ["rm_view", "rm_call", "rm_event", "rm_output", "rm_node_vtable"]
)
def test_structs_are_laid_out_alike_in_c_and_cffi(struct: str, tool: Tool, tmp_path: Path) -> None:
    ffi = cffi.FFI()
    ffi.cdef(CFFI)
    layout = [(name, field.offset) for name, field in ffi.typeof(struct).fields]
    prints = [f'printf("{name} %zu\\n", offsetof({struct}, {name}));' for name, _ in layout]
    source, probe = tmp_path / "probe.c", tmp_path / "probe"
    source.write_text(
        f"#include <remotemedia.h>\n#include <stdio.h>\nint main(void) {{ {''.join(prints)}"
        f' printf("%zu\\n", sizeof({struct})); return 0; }}\n'
    )
    output(tool("gcc"), f"-I{HEADER.parent}", source, "-o", probe)
    *offsets, size = output(probe).splitlines()
    assert offsets == [f"{name} {offset}" for name, offset in layout]
    assert int(size) == ffi.sizeof(struct)
    # Fields are only ever added at the end, so the first version stays as it was.
    assert layout[0] == ("struct_size", 0)
    sizes = {"rm_view": 96, "rm_call": 144, "rm_event": 16, "rm_output": 24, "rm_node_vtable": 72}
    assert sizes[struct] <= int(size)


def test_comments_speak_of_what_there_is() -> None:
    there = functions(CODE) | types(CODE) | macros(CODE) | {"rm_"}
    families = {re.sub(r"[A-Za-z0-9]+$", "*", name) for name in there}  # such as RM_WANT_*
    for comment in COMMENTS:
        named = set(re.findall(r"\b(?:rm_|RM_)\w*(?:(?<=_)\*)?", comment))
        assert named <= there | families, named - there - families


def test_the_manual_is_complete() -> None:
    """Every declaration and every field is explained."""
    for name in functions(CODE) | types(CODE) | macros(CODE) - {"REMOTEMEDIA_H"}:
        declared = rf"\*/\n(?:#define {name}\b|(?:typedef )?[\w *]*\(?\*?\b{name}\b|"
        struct = rf"typedef struct {name} \{{)"
        assert re.search(declared + struct, TEXT), f"{name} is not explained"
    for body in re.findall(r"^typedef struct \w+ \{\n(.*?)^\}", TEXT, re.MULTILINE | re.DOTALL):
        fields = re.findall(r"^  (?!/\*| )\w.*;$", body, re.MULTILINE)
        assert len(fields) == len(re.findall(r"\*/\n  \w.*;$", body, re.MULTILINE))


def test_every_type_lists_its_functions() -> None:
    belonging = set()
    for name in re.findall(r"^typedef struct (\w+) \1;$", CODE, re.MULTILINE):
        (comment,) = [c for c in COMMENTS if f"{c}\ntypedef struct {name} {name};\n" in TEXT]
        listed = re.search(r"\n Functions: (.*?)\.\n \*/$", comment, re.DOTALL)
        assert listed, f"{name} lists no functions"
        named = set(re.findall(r"\w+", listed[1]))
        assert named <= functions(CODE)
        own = {f for f in functions(CODE) if f.startswith(f"{name}_")} - OF_NO_TYPE
        assert own <= named, f"{name} does not list {own - named}"
        belonging |= named
    assert belonging | OF_NO_TYPE == functions(CODE)
    assert not belonging & OF_NO_TYPE


def test_the_codes_have_their_numbers_for_ever() -> None:
    """Once released a number never means anything else (rule 12)."""
    codes = dict(re.findall(r"^#define (RM_(?:OK|AGAIN|E_\w+)) (-?\d+)$", CODE, re.MULTILINE))
    failures = ["ARGUMENT", "UTF8", "JSON", "MANIFEST", "NODE", "TIMEOUT", "CANCELLED", "CLOSED"]
    failures += ["BUSY", "UNSUPPORTED", "PLUGIN", "IO", "LIMIT", "FORKED", "PANIC", "INTERNAL"]
    failures += ["DENIED"]
    assert codes == {
        "RM_OK": "0",
        "RM_AGAIN": "1",
        **{f"RM_E_{name}": str(-number) for number, name in enumerate(failures, 1)},
    }
    wants = dict(re.findall(r"^#define RM_WANT_(\w+) (\d+)$", CODE, re.MULTILINE))
    bits = ["ROOM", "OUTPUT", "TASK", "END", "BEGUN", "RESULT"]
    assert wants == {bit: str(1 << number) for number, bit in enumerate(bits)}
    tasks = dict(re.findall(r"^#define RM_TASK_(\w+) (\d+)$", CODE, re.MULTILINE))
    kinds = ["INITIALIZE", "PROCESS", "FLUSH", "INTERRUPT", "SET", "CLEANUP"]
    assert tasks == {kind: str(number) for number, kind in enumerate(kinds)}
    flags = dict(re.findall(r"^#define RM_NODE_(\w+) (\d+)$", CODE, re.MULTILINE))
    assert flags == {"HEAVY": "1", "WAITS": "2", "STATELESS": "4"}
