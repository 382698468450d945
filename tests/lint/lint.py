#!/usr/bin/env python3
"""What the compiler does not check: layers, headers that stand alone, no writable globals, format."""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Who may include whom: a file includes lower levels, and of its own level what stands before it.
# docs/architecture.md draws the same picture.
LEVELS = [
    ["str", "arena", "buf", "base64", "siphash", "log", "trim"],
    ["setting", "policy_action", "turn", "timer", "breaker", "windows", "domain", "mail", "attempts", "question", "stats", "table",
     "digest", "trace", "query", "codec"],
    ["address", "json", "template", "config_convert", "config_parts", "config"],
    ["http", "resolver", "names", "redis", "poller", "helper", "worker", "crew", "fronts"],
    ["dialog", "conn", "backends"],
    ["survey", "web", "listener", "listeners", "daemon", "reload", "control", "client"],
    ["main"],
]
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


def room(path):
    """The name a file goes by in LEVELS."""
    if path.parent.name == "backends":
        return "backends"
    stem = path.stem
    if stem.startswith("front"):
        return "fronts"
    for prefix in ("config", "http", "resolver", "json", "redis", "setting", "client", "web"):
        if stem.startswith(prefix + "_"):
            return prefix
    return stem


def rank(name):
    for level, names in enumerate(LEVELS):
        if name in names:
            return level, names.index(name)
    return None


def includes(path, form):
    return re.findall(form, path.read_text(), re.M)


def check_layers(complain):
    for path in sources("src/*.[ch]", "backends/*.[ch]"):
        mine = room(path)
        if rank(mine) is None:
            complain(path, f"{mine} has no level in tests/lint/lint.py")
            continue
        for header in includes(path, r'^#include "([^"]+)\.h"'):
            theirs = room(pathlib.Path("src") / f"{header}.h")
            if (ROOT / "backends" / f"{header}.h").exists():
                theirs = "backends"
            if theirs == mine:
                continue
            if rank(theirs) is None:
                complain(path, f"includes {header}.h, which has no level")
            elif rank(theirs) >= rank(mine):
                complain(path, f"includes {header}.h, which stands above it")
            elif mine == "fronts" and rank(theirs)[0] > 1:
                complain(path, f"a codec includes {header}.h: levels 0 and 1 only")
            elif mine == "backends" and theirs in ("conn", "dialog"):
                complain(path, "a backend knows no connections")


def check_libraries(complain):
    for path in sources("src/*.[ch]", "backends/*.[ch]"):
        for library in includes(
                path, r"^#include <(event2|curl|cjson|yaml|lua|lauxlib|lualib|ares|idn2|hiredis)\b"):
            if path.suffix == ".h":
                complain(path, f"a header includes the library {library}")
            elif room(path) not in LIBRARIES.get(library, set()):
                complain(path, f"includes the library {library}; see LIBRARIES in tests/lint/lint.py")
            elif room(path) == "backends" and not path.stem.startswith("lua"):
                complain(path, f"a backend includes the library {library}")


def check_headers(complain):
    for path in sources("src/*.h", "backends/*.h"):
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
    files = sources("src/*.[ch]", "backends/*.[ch]", "tests/**/*.[ch]")
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

    files = sources("src/*.c", "backends/*.c")
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
