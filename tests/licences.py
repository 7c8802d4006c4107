#!/usr/bin/env python3
"""Checks the licence of every dependency, and that the embedded default stays small.

Reads `cargo metadata` only. The list of licences is that of docs/dependencies.md.
"""

import json
import re
import subprocess
import sys

ALLOWED = {
    "MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC",
    "Zlib", "Unicode-3.0", "Unicode-DFS-2016", "CC0-1.0", "0BSD", "Unlicense", "BSL-1.0",
}
# Used unchanged, and only with the feature `glommio`: file-level copyleft, which asks nothing of us.
EXCEPTIONS = {"bitmaps": "MPL-2.0+", "im": "MPL-2.0+", "sized-chunks": "MPL-2.0+", "im-rc": "MPL-2.0+"}
# Never in the embedded default: a runtime, a C++ build, somebody else's network.
BANNED_BY_DEFAULT = {"tokio", "opendal", "etcd-client", "reqwest", "hyper", "openssl", "openssl-sys", "tonic"}
ENGINE_CRATES_MAX = 60


def metadata(*arguments):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def allowed(expression):
    """Whether an SPDX expression can be met with allowed licences. AND binds closer than OR."""
    expression = expression.replace("/", " OR ").replace("(", " ( ").replace(")", " ) ")
    tokens = re.findall(r"\(|\)|\bAND\b|\bOR\b|[^()\s]+(?: WITH [^()\s]+)?", expression)

    def either():
        result = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            result = both() or result
        return result

    def both():
        result = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            result = one() and result
        return result

    def one():
        token = tokens.pop(0)
        if token == "(":
            result = either()
            tokens.pop(0)
            return result
        return token in ALLOWED

    return either()


def main():
    bad = []
    everything = metadata("--all-features")
    for package in everything["packages"]:
        licence = package["license"]
        excepted = licence is not None and EXCEPTIONS.get(package["name"]) == licence
        if package["source"] and not excepted and not (licence and allowed(licence)):
            bad.append(f"{package['name']} {package['version']}: licence {licence!r} is not on the list")

    default = metadata()
    names = {package["id"]: package["name"] for package in default["packages"]}
    nodes = {node["id"]: node for node in default["resolve"]["nodes"]}
    engine = next(id for id, name in names.items() if name == "thalweg")
    reached, queue = set(), [engine]
    while queue:
        node = queue.pop()
        if node in reached:
            continue
        reached.add(node)
        for dependency in nodes[node]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                queue.append(dependency["pkg"])
    crates = sorted(names[id] for id in reached)
    for name in BANNED_BY_DEFAULT.intersection(crates):
        bad.append(f"{name} is in the default build of the engine")
    if len(crates) > ENGINE_CRATES_MAX:
        bad.append(f"the default build of the engine has {len(crates)} crates, at most {ENGINE_CRATES_MAX} are wanted")
    for line in bad:
        print(line, file=sys.stderr)
    print(f"{len(everything['packages'])} packages checked, {len(crates)} in the engine's default build")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
