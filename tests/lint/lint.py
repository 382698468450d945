#!/usr/bin/env python3
"""What the compiler does not check: layers, headers that stand alone, no writable globals, format."""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Who may include whom: a file includes rooms that stand before its own, and of its own room what stands
# before it. docs/architecture.md draws the same picture.
ROOMS = {
    "base": ["str", "arena", "buf", "base64", "siphash", "log", "trim"],
    "model": ["setting", "policy_action", "turn", "timer", "breaker", "windows", "domain", "mail", "attempts", "question",
              "stats", "table", "digest", "trace", "query", "codec"],
    "text": ["address", "json", "template"],
    "config": ["config"],
    "engine": ["http", "resolver", "names", "redis", "poller", "helper", "worker", "crew"],
    "front": ["front"],
    "conn": ["dialog", "conn"],
    "backends": ["backends"],
    "web": ["survey", "web"],
    "client": ["client"],
    "daemon": ["listener", "listeners", "daemon", "reload", "control", "main"],
}
ORDER = [(room, name) for room, names in ROOMS.items() for name in names]
LIBRARIES = {
    "event2": {"http", "resolver", "names", "redis", "poller", "worker", "conn", "listener", "web"},
    "curl": {"http", "client"},
    "ares": {"resolver"},
    "idn2": {"domain"},
    "cjson": {"config", "json"},
    "yaml": {"config"},
    "hiredis": {"redis"},
    "lua": {"backends"},
    "lauxlib": {"backends"},
    "lualib": {"backends"},
}


def sources(*patterns):
    return sorted(p for pattern in patterns for p in ROOT.glob(pattern))


def place(path):
    """The room of a file, and the name it goes by there: config_yaml.c is a part of config."""
    room, stem = path.parent.name, path.stem
    if room in ("backends", "front"):
        return room, room
    families = [name for name in ROOMS.get(room, ()) if stem == name or stem.startswith(name + "_")]
    return room, max(families, key=len, default=stem)


def includes(path, form):
    return re.findall(form, path.read_text(), re.M)


def header_path(path, header):
    """Headers of src/ go by their room; a backend's by its name alone."""
    return ROOT / "src" / header if "/" in header else path.parent / header


def check_layers(complain):
    for path in sources("src/*/*.[ch]", "backends/*.[ch]"):
        mine = place(path)
        if mine not in ORDER:
            complain(path, f"{mine[1]} has no place in tests/lint/lint.py")
            continue
        for header in includes(path, r'^#include "([^"]+)"'):
            theirs = place(header_path(path, header))
            if theirs == mine:
                continue
            if theirs not in ORDER:
                complain(path, f"includes {header}, which has no place; of another room it is \"ROOM/NAME.h\"")
            elif ORDER.index(theirs) > ORDER.index(mine):
                complain(path, f"includes {header}, which stands above it")
            elif mine[0] == "front" and theirs[0] not in ("base", "model"):
                complain(path, f"a codec includes {header}: base and model only")
            elif mine[0] == "backends" and theirs[0] in ("front", "conn"):
                complain(path, "a backend knows no connections")


def check_libraries(complain):
    for path in sources("src/*/*.[ch]", "backends/*.[ch]"):
        room, name = place(path)
        for library in includes(
                path, r"^#include <(event2|curl|cjson|yaml|lua|lauxlib|lualib|ares|idn2|hiredis)\b"):
            if path.suffix == ".h":
                complain(path, f"a header includes the library {library}")
            elif name not in LIBRARIES.get(library, set()):
                complain(path, f"includes the library {library}; see LIBRARIES in tests/lint/lint.py")
            elif room == "backends" and not path.stem.startswith("lua"):
                complain(path, f"a backend includes the library {library}")


def check_headers(complain):
    for path in sources("src/*/*.h", "backends/*.h"):
        run = subprocess.run(
            ["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-I", ROOT / "src",
             "-fsyntax-only", "-x", "c", path], capture_output=True, text=True)
        if run.returncode:
            complain(path, "does not compile alone:\n" + run.stderr)


def check_globals(complain, archive):
    run = subprocess.run(["objdump", "-t", archive], capture_output=True, text=True, check=True)
    for section, name in re.findall(r"^[0-9a-f]+ g +O (\S+)\s+[0-9a-f]+ (?:\.hidden )?(\S+)$",
                                    run.stdout, re.M):
        if re.match(r"\.(data|bss|tdata|tbss)|\*COM\*", section) and "rel.ro" not in section:
            complain(pathlib.Path(archive), f"writable symbol with external linkage: {name} ({section})")


def check_format(complain):
    files = sources("src/*/*.[ch]", "backends/*.[ch]", "tests/**/*.[ch]")
    run = subprocess.run(["clang-format", "--dry-run", "-Werror", *files], capture_output=True,
                         text=True)
    if run.returncode:
        complain(ROOT, "clang-format disagrees (make format):\n" + run.stderr[:4000])


def check_tidy(complain, build):
    # One run for each file: of several, clang-tidy 14 takes va_start() for unknown from the second
    # on. gcc's flags that clang has not are no news.
    def tidy(path):
        return subprocess.run(
            ["clang-tidy", "-p", build, "--quiet",
             "--extra-arg=-Wno-ignored-optimization-argument", path],
            capture_output=True, text=True)

    files = sources("src/*/*.c", "backends/*.c")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, run in zip(files, pool.map(tidy, files)):
            if run.returncode:
                complain(path, "clang-tidy:\n" + (run.stdout or run.stderr)[:4000])


def main():
    what, build = sys.argv[1], pathlib.Path(sys.argv[2])
    wrong = []

    def complain(path, text):
        wrong.append(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}: {text}")

    {
        "layers": lambda: (check_layers(complain), check_libraries(complain)),
        "headers": lambda: check_headers(complain),
        "globals": lambda: check_globals(complain, build / "libmapmux_core.a"),
        "format": lambda: check_format(complain),
        "tidy": lambda: check_tidy(complain, build),
    }[what]()
    print("\n".join(wrong) or f"{what}: nothing wrong")
    return 1 if wrong else 0


sys.exit(main())
