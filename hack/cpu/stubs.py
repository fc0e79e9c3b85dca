"""Build stand-ins for the NVIDIA libraries that PyPI's torch links and a CPU never calls.

    /path/to/venv/bin/python stubs.py

The dynamic linker refuses `import torch` unless every library that torch names exists and defines
every symbol, with the version, that torch expects from it. For each such library that is not
installed, this program reads from torch's own ELF files which symbols those are, and links a tiny
library that defines them beside torch. Each function returns 1, which is an error code in every one
of these interfaces; none is called while `torch.cuda.is_available()` is False.

For this project's tests and its CPU image only. Needs gcc and readelf (binutils); 7 s.
"""

import re
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

STUBBED = re.compile(
    r"lib(cublas|cublasLt|cudnn|cufft|cusparse|cusparseLt|nccl|nvshmem_host|nvrtc|cupti|cufile"
    r"|cudart|nvJitLink)\.so\.\d+"
)
# Libraries without symbol versions: an undefined symbol names its library only by its prefix.
PREFIXES = {
    "nccl": "libnccl.so.2",
    "pnccl": "libnccl.so.2",
    "cusparseLt": "libcusparseLt.so.0",
    "cuFile": "libcufile.so.0",
    "nvshmem": "libnvshmem_host.so.3",
}
OBJECT_BYTES = 4096  # room for a data symbol whose size torch does not say


@dataclass
class Stub:
    """What one stand-in library must define."""

    version: str | None = None
    symbols: dict[str, str] = field(default_factory=dict)  # name -> FUNC, OBJECT or NOTYPE


@dataclass(frozen=True)
class Symbol:
    """One row of a dynamic symbol table."""

    name: str
    version: str | None
    kind: str
    defined: bool


def readelf(option: str, file: Path) -> str:
    """Return what readelf prints of a file; raises CalledProcessError when it cannot read it."""
    command = ["readelf", option, "--wide", str(file)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def needed_libraries(file: Path) -> set[str]:
    """The NVIDIA libraries that a file is linked with."""
    names = re.findall(r"\(NEEDED\).*\[(.*?)\]", readelf("--dynamic", file))
    return {name for name in names if STUBBED.fullmatch(name)}


def version_owners(file: Path) -> dict[str, str]:
    """Which library each symbol version that a file needs belongs to."""
    owners: dict[str, str] = {}
    library = None
    for line in readelf("--version-info", file).splitlines():
        if found := re.search(r"File: (\S+)", line):
            library = found[1]
        elif library and (found := re.search(r"Name: (\S+)", line)):
            owners[found[1]] = library
    return owners


def symbols(file: Path) -> Iterator[Symbol]:
    """Yield a file's dynamic symbols."""
    for line in readelf("--dyn-syms", file).splitlines():
        match line.split():
            # Num: Value Size Type Bind Visibility Section Name[@Version]
            case [number, _, _, kind, _, _, section, full, *_] if number.endswith(":"):
                name, _, version = full.replace("@@", "@").partition("@")
                yield Symbol(name, version or None, kind, section != "UND")
            case _:
                pass


def wanted_stubs(files: list[Path]) -> dict[str, Stub]:
    """Collect, for each NVIDIA library, what torch's files expect it to define."""
    stubs: dict[str, Stub] = {}
    unversioned: dict[str, str] = {}
    defined_by_torch: set[str] = set()
    for file in files:
        for library in needed_libraries(file):
            stubs.setdefault(library, Stub())
        owners = version_owners(file)
        for symbol in symbols(file):
            if symbol.defined:
                defined_by_torch.add(symbol.name)
            elif symbol.version is None:
                unversioned[symbol.name] = symbol.kind
            elif STUBBED.fullmatch(library := owners.get(symbol.version, "")):
                stub = stubs.setdefault(library, Stub())
                stub.version = symbol.version
                stub.symbols[symbol.name] = symbol.kind
    for name, kind in unversioned.items():
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix and name not in defined_by_torch:
            stubs.setdefault(PREFIXES[prefix], Stub()).symbols[name] = kind
    return stubs


def link(library: str, stub: Stub, folder: Path) -> None:
    """Compile one stand-in into a folder."""
    lines = [
        f"char {name}[{OBJECT_BYTES}];" if kind == "OBJECT" else f"int {name}(void) {{ return 1; }}"
        for name, kind in sorted(stub.symbols.items())
    ]
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "stub.c")
        source.write_text("\n".join(lines or ["int nothing_is_needed;"]) + "\n")
        flags = ["-w", "-shared", "-fPIC", "-O1", "-fno-builtin", f"-Wl,-soname,{library}"]
        if stub.version:
            versions = Path(scratch, "versions.map")
            versions.write_text(f"{stub.version} {{ global: *; }};\n")
            flags.append(f"-Wl,--version-script={versions}")
        command = ["gcc", *flags, "-o", str(folder / library), str(source)]
        subprocess.run(command, check=True)


def main() -> None:
    """Build every missing library beside torch's own."""
    packages = Path(sysconfig.get_paths()["purelib"])
    folder = packages / "torch" / "lib"
    installed = {file.name for file in packages.glob("nvidia/**/lib/*")}
    own = [file for file in sorted(folder.glob("*.so*")) if not STUBBED.fullmatch(file.name)]
    missing = {k: v for k, v in wanted_stubs(own).items() if k not in installed}
    for number, (library, stub) in enumerate(sorted(missing.items()), start=1):
        link(library, stub, folder)
        print(f"stub {number}/{len(missing)}: {library}, {len(stub.symbols)} symbols")


if __name__ == "__main__":
    main()
