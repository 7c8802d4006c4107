#!/usr/bin/env python3
"""Checks the house rules that a machine can check, over every file git tracks or would track.

Prints `path:line: what is wrong and what to do` for each finding; ends with 1 if there are any.
With --self-test it writes a small workspace that breaks every rule, and checks what is found in it.
"""

import fnmatch
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from posixpath import dirname, join, normpath

SELF = "tests/tidy.py"  # names what it looks for
NAMES = {"utils", "common", "helpers", "impls", "misc", "v2"}
TOP = set("""Cargo.toml Cargo.lock README.md ARCHITECTURE.md LICENSE rust-toolchain.toml rustfmt.toml
    clippy.toml deny.toml io engine cluster broker cli tuning bench tests docs""".split())
MAY_IMPORT = {  # a folder, and the folders whose crates its crates may depend on
    "io": set(), "engine": {"io"}, "cluster": {"engine", "io"}, "broker": {"cluster", "engine", "io"},
    "tuning": {"engine", "io"}, "bench": {"broker", "cluster", "engine", "io"},
    "cli": {"bench", "broker", "cluster", "engine", "io", "tuning"}, "tests": TOP,
}
STD = "(?:fs|net|process|env|thread)"
ENGINE_BANS = "|".join([  # what passes by the simulator, or makes a seed's second run another one
    r"\b(?:Instant|SystemTime|UNIX_EPOCH)\b(?:::\w+)?", r"\bHash(?:Map|Set)\b|\bRandomState\b",
    r"\b(?:fast|get)?rand(?:om)?::\w+", rf"\bstd::{STD}\b(?:::\w+)*|\bstd::\{{[^;]*?\b{STD}\b",
    r"\.(?:(?:try_)?exists|is_file|is_dir|canonicalize|read_dir)\(\)",
])
ENGINE_MAY = {  # file: what it may use, and why
    "engine/src/engine.rs": ("std::thread::Builder::new std::thread::JoinHandle", "the pinned threads"),
    "engine/src/inspect/mod.rs": (".exists()", "no lock file may be made in a folder that is not ours"),
    "engine/src/probe/measure.rs": ("std::thread::scope", "measuring where a shard would run"),
    "engine/src/probe/slice.rs": ("std::thread::yield_now", "it waits as a shard's thread does"),
    "engine/src/slot.rs": (
        "std::thread::Thread std::thread::ThreadId std::thread::current std::thread::park", "a caller waits"),
    "engine/src/log.rs": ("std::thread::ThreadId", "who turns a shard must not wait for it"),
    "engine/src/ticket.rs": ("std::thread::yield_now", "a spinning caller yields its core"),
    "engine/src/read/reader.rs": ("std::thread::yield_now", "a spinning reader yields its core"),
}
EXAMPLE_PATHS = {"quarantine/", "FORMATTING/"}  # in a data directory
MACHINE = "|".join([  # paths, addresses and registries of one place
    r"(?<![\w.~-])/root/|/home/[a-z]|/Users/[A-Za-z]", r"\bindex-url\b|\breplace-with\b",
    r"\[(?:source|registries)\b|\bregistry\+(?!https://github\.com/rust-lang/crates\.io-index\b)|\bsparse\+http",
    r"\b(?:10\.\d{1,3}|192\.168)(?:\.\d{1,3}){2}\b",
])

class Tree:
    """The files of a work tree, read once; all paths begin at its root."""
    def __init__(self, root):
        listed = output("git", "-c", "safe.directory=*", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        self.paths = sorted({path for path in listed.split("\0") if path and Path(root, path).is_file()})
        self.known = {*self.paths, *(f"{folder}/" for path in self.paths for folder in Path(path).parents)}
        read = {path: Path(root, path).read_bytes() for path in self.paths}
        self.text = {path: data.decode(errors="replace") for path, data in read.items() if b"\0" not in data}
        self.code = {path: blank(text) for path, text in self.text.items() if path.endswith(".rs")}
        command = "cargo metadata --no-deps --offline --format-version 1 --manifest-path"
        data = output(*command.split(), f"{root}/Cargo.toml").replace(f"{root}/", "")
        self.packages = json.loads(data)["packages"]
        self.roots = [target["src_path"] for package in self.packages for target in package["targets"]]

    def of(self, ending, but=None):
        return [(path, text) for path, text in self.text.items() if path.endswith(ending) and path != but]

def output(*command):
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    here = Path(__file__).parent  # for the toolchain, wherever the tree is
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=here, env=env).stdout

def blank(source):
    """Rust with spaces for what is in comments, strings and characters; positions stay."""
    token = r"""//[^\n]*|(/\*)|\b[bc]?r(#*)".*?"\2|"(?:\\.|[^"\\])*"|'(?:\\[^\n]+?|[^'\\\n])'"""
    token, out, at = re.compile(token, re.S), "", 0
    while match := token.search(source, at):
        end, depth = match.end(), 1 if match.group(1) else 0
        while depth and (mark := re.compile(r"/\*|\*/").search(source, end)):  # these nest
            depth, end = depth + (1 if mark.group() == "/*" else -1), mark.end()
        out += source[at:match.start()] + spaces(source[match.start():end])
        at = end
    return out + source[at:]

def spaces(text):
    return re.sub(r"[^\n]", " ", text)

def item_end(code, at):
    """Where the item around `at` ends: behind its `;`, or behind the brace that closes its body."""
    depth = 0
    for match in re.compile(r"[()\[\]{};]").finditer(code, at):
        depth += (match.group() in "([{") - (match.group() in ")]}")
        if depth < 0 or (depth == 0 and match.group() in "};"):
            return match.end()
    return len(code)

def shipped(tree, *folders):
    """The code below `folders` without what only tests compile."""
    for path, code in tree.code.items():
        if path.startswith(folders) and not re.search(r"/tests(/|\.rs$)", path):
            for match in re.finditer(r"#\[(?:cfg\((?:all\()?)?test\b[^\]]*\]", code):
                end = item_end(code, match.end())
                code = code[:match.start()] + spaces(code[match.start():end]) + code[end:]
            yield path, code

def find(texts, pattern, message=""):
    """Each match as path, line, message (`{}` is what matched), match."""
    for path, text in texts:
        for match in re.finditer(pattern, text, re.M):
            yield path, text.count("\n", 0, match.start()) + 1, message.format(match.group()), match

def function_lines(tree):
    for path, line, _, match in find(tree.code.items(), r"\bfn\s+(\$?\w+)"):
        count = tree.code[path].count("\n", match.start(), item_end(tree.code[path], match.end())) + 1
        if count > 70:
            yield path, line, f"`{match.group(1)}` has {count} lines, at most 70: take a step out"

def names(tree):
    return ((path, 1, f"the name `{part}` says nothing: name the idea") for path in tree.paths
            for part in path.split("/") if part.split(".")[0] in NAMES)

def imports(tree):
    for package in tree.packages:
        manifest, folder = package["manifest_path"], package["manifest_path"].split("/")[0]
        for needed in package["dependencies"]:
            if "path" in needed and (to := needed["path"].split("/")[0]) not in MAY_IMPORT.get(folder, set()):
                name = rf"^\[?(?:\S*\.)?{needed['rename'] or needed['name']}(?![\w-])"
                line = next((line for _, line, *_ in find(tree.of(manifest), name)), 1)
                yield manifest, line, f"{folder} must not depend on {to or needed['path']}: imports point down"

def planted(tree):
    """Bugs on purpose are for the tests alone: no other crate may have them switched on."""
    for package in tree.packages:
        manifest = package["manifest_path"]
        if manifest.startswith("tests/"):
            continue
        enabled = [name for name, on in package["features"].items() if name != "planted"
                   and any(re.fullmatch(r"(?:.*/)?planted", each) for each in on)]
        enabled += [needed["name"] for needed in package["dependencies"] if "planted" in needed["features"]]
        if "planted" in package["features"] and not manifest.startswith(("io/", "engine/")):
            enabled.append("planted")
        for name in enabled:
            line = next((line for _, line, *_ in find(tree.of(manifest), rf"\b{re.escape(name)}\b.*planted|^planted")), 1)
            yield manifest, line, f"`{name}` switches planted bugs on: only tests/ may"

def unsafe_explained(tree):
    for path, line, _, match in find(tree.code.items(), r"\bunsafe\b(\s+(?:extern\s+)?fn\s+\w)?"):
        lines, above = list(zip(tree.text[path].split("\n"), tree.code[path].split("\n"))), ""
        for text, rust in reversed(lines[:line - 1]):  # up to the statement before
            if not text.strip() or re.search(r"[;}]\s*$|\bfn\b", rust):
                break
            above += text[len(rust.rstrip()):]
        wanted = "# Safety" if match.group(1) else "SAFETY:"
        if path.startswith("io/") and wanted not in above:
            yield path, line, f"`unsafe` without `{wanted}` right above: say why it holds"

def engine_bans(tree):
    used = set()
    banned = find(shipped(tree, "engine/src/"), ENGINE_BANS, "`{}` in the engine: ask io for it")
    for path, line, message, match in banned:
        used.add((path, match.group()))
        if match.group() not in ENGINE_MAY.get(path, ("",))[0].split():
            yield path, line, message
    for path, what in {(path, what) for path in ENGINE_MAY for what in ENGINE_MAY[path][0].split()} - used:
        if path in tree.known:
            yield path, 1, f"`{what}` is allowed and not used: take it off the list in {SELF}"

def named_paths(tree):
    spans = list(find(tree.of(".md"), r"`([^`\n]+)`"))
    spans += find(tree.of("ARCHITECTURE.md"), r"^ {4}([\w-]+/)\s|([\w./-]+\.rs)\b")
    for path, line, _, match in spans:
        name = match.group(1) or match.group(2)
        looks = re.fullmatch(r"(?:[\w.*-]+/)+(?:[\w.*-]*\.\w+)?|[\w*-]+\.rs|\.ci/\w+", name)
        looks = looks or (name.split("/")[0] in TOP and re.fullmatch(r"[\w.-]+(?:/[\w-]+)+", name))
        bases = {"", dirname(path), *map(dirname, tree.roots)}
        places = [normpath(join(base, name)) + "/" * name.endswith("/") for base in bases]
        if looks and name not in EXAMPLE_PATHS and not any(fnmatch.filter(tree.known, place) for place in places):
            yield path, line, f"`{name}` is not in the tree: correct the name, or remove it"

def links(tree):
    for path, line, _, match in find(tree.of(".md"), r"\]\((?![a-z]+:|#)([^)\s#]+)"):
        if not tree.known & {(place := normpath(join(dirname(path), match.group(1)))), f"{place}/"}:
            yield path, line, f"the link to `{match.group(1)}` leads nowhere: correct or remove it"

RULES = {  # each gives path, line, and what is wrong and what to do
    "columns": lambda tree: find(tree.of(".rs"), r"^.{111,}$", "over 110 columns: wrap the line"),
    "blanks": lambda tree: find(tree.of("", but="LICENSE"), r"\t|[ \r]+$", "a tab or trailing blanks: use spaces"),
    "last_newline": lambda tree: find(tree.of(""), r"[^\n]\Z", "the last line has no end: add a newline"),
    "file_lines": lambda tree: find(tree.of(".rs"), r"\A(?:.*\n){501,}", "over 500 lines: part its two ideas"),
    "function_lines": function_lines,
    "names": names,
    "top_level": lambda tree: ((path, 1, "has no place at the top: move it into a folder")
                               for path in tree.paths if path.split("/")[0] not in TOP and path[0] != "."),
    "imports": imports,
    "planted": planted,
    "unsafe_place": lambda tree: find((file for file in tree.code.items() if file[0][:3] != "io/"),
                                      r"\bunsafe\b", "`unsafe` outside io/: move it behind a safe function there"),
    "unsafe_forbidden": lambda tree: ((root, 1, "lacks `#![forbid(unsafe_code)]`: add it") for root in tree.roots
                                      if root[:3] != "io/" and "#![forbid(unsafe_code)]" not in tree.code.get(root, "")),
    "unsafe_explained": unsafe_explained,
    "engine_bans": engine_bans,
    "leftovers": lambda tree: find(tree.of("", but=SELF), r"\b(?:TODO|FIXME|XXX)\b|\b(?:todo|unimplemented|dbg)!",
                                   "`{}`: do it, or leave it out"),
    "unwraps": lambda tree: find(shipped(tree, "io/src/", "engine/src/", "cli/src/"), r"\.\s*unwrap\s*\(\s*\)",
                                 "`unwrap` outside tests: return an error, or `expect` with a reason"),
    "named_paths": named_paths,
    "links": links,
    "machine": lambda tree: find(tree.of("", but=SELF), MACHINE, "`{}` is about one machine"
                                 ": leave it out"),
}

# A workspace that breaks every rule: `~rule*3` in a line means that the rule finds three things there.
SIGNS = {"<tab>": "\t", "<blank>": " ", "<100>": "x" * 100, "<cut>\n": "",
         "<68 lines>\n": "\n" * 68, "<500 lines>\n": "\n" * 500, "<forbid>": "#![forbid(unsafe_code)]"}
PLANTED = r'''
== Cargo.toml: workspace = { resolver = "3", members = ["io", "engine", "cli"] }
== ../elsewhere/Cargo.toml: package = { name = "elsewhere", edition = "2024" }
== ../elsewhere/src/lib.rs: // empty
== cli/Cargo.toml: package = { name = "thalweg-cli", edition = "2024" }
dependencies.thalweg-io = { path = "../io", features = ["planted"] } # ~planted
== io/Cargo.toml: package = { name = "thalweg-io", edition = "2024" }
features.planted = []
features.default = ["planted"] # ~planted
dependencies.elsewhere-too = "1"
dependencies.elsewhere.path = "../../elsewhere" # ~imports
== engine/Cargo.toml: package = { name = "thalweg", edition = "2024" }
dependencies.thalweg-io.path = "../io"
dev-dependencies.thalweg-cli.path = "../cli" # ~imports
== cli/src/main.rs: // #![forbid(unsafe_code)] ~unsafe_forbidden
== cli/src/utils.rs: // ~names
== engine/src/v2/offsets.rs: // ~names
== engine/src/ticket.rs: // does not need what the list allows ~engine_bans
== engine/src/inspect/mod.rs: fn a() { b.exists(); std::thread::sleep(a) } // ~engine_bans
== engine/src/log.rs: // std::thread::ThreadId is not used ~engine_bans
== engine/src/long.rs: // ~file_lines
<500 lines>
== engine/src/not_long.rs: <500 lines>
== engine/src/log/tests.rs: fn a() { std::fs::read(b).unwrap(); }
== engine/examples/root.rs: fn main() { a.unwrap() } // ~unsafe_forbidden
== engine/src/lib.rs: <forbid> //! not code: unsafe { std::fs::read(a).unwrap() }
const A: (&str, char, &str) = (r#"" unsafe { std::fs"#, '"', "\" unsafe {"); fn f<'a>(b: &'a u8, c: &'a u8) {}
fn long(a: [u8; 2]) -> [u8; 2] { // ~function_lines
    let b = ('}', "}", '\'', '\"'); /* } /* } */ } */ a.unwrap(); // ~unwraps
<68 lines>
}
fn not_long() { let b = ('{', "{", '\u{7b}', r"{");
<68 lines>
}
use std::{io, fs}; fn g() { std::net::bind(); std::thread::sleep(); SystemTime::now() } // ~engine_bans*4
fn h() { let a: HashMap = rand::random(); Instant::now(); path.exists() } // ~engine_bans*4
fn i<'a>() { FxHashMap::new(); a.unwrap_or(b); a.unwrap() } fn j(a: &'a u8) {} // ~unwraps
#[cfg(test)]
mod tests { fn a() { std::fs::read(a).unwrap(); } }
fn k() { a // the tests have ended
    .unwrap(); unsafe { todo!() } } // TODO ~unwraps ~unsafe_place ~leftovers*2
struct L { #[cfg(test)] a: u8 } fn l() { a.unwrap() } // ~unwraps
#[cfg(test)] use a::b; fn m() { a.unwrap() } // ~unwraps
== io/src/lib.rs: // SAFETY: it has no data.
unsafe impl Send for A {}
unsafe impl Sync for A {} // SAFETY: too late. ~unsafe_explained
/// # Safety
/// `at` is valid.
#[inline]
pub unsafe fn read(at: *const u8) -> u8 {
    // SAFETY: as promised.
    let a =
        unsafe { *at };
    unsafe { *at } // ~unsafe_explained
}
// SAFETY: no heading, as a function has, and too far from the block.
pub unsafe fn write() { // ~unsafe_explained
    unsafe { read() } // ~unsafe_explained
}
== io/src/form.rs: // ~blanks<tab>
// ~blanks<blank>
<100>0123456789
<100>// ~columns
== docs/end.txt: ~last_newline<cut>
== notes.txt: ~top_level
== .ci/run: /tmp/x project/root/x registry+https://github.com/rust-lang/crates.io-index
pip --index-url x; cd /root/x /home/me http://10.0.0.1 registry+https://x [source.x] # ~machine*6
== README.md: `engine/src/log.rs` `log.rs` `engine/*/lo*.rs` `io/` `quarantine/` `/proc/stat` [a](https://b.c) [a](#b)
`engine/src/gone.rs` `gone.rs` `gone/` `engine/gone` `engine/*.py` ~named_paths*5
[here](docs/end.txt#a) [gone](gone.md) ~links
== ARCHITECTURE.md: # Map
    engine/   lib.rs
    gone/     log/gone.rs ~named_paths*2'''

def self_test():
    with tempfile.TemporaryDirectory() as place:
        root, wanted = Path(place, "tree"), Counter()
        for part in PLANTED.split("\n== ")[1:]:
            path, text = f"{part}\n".split(": ", 1)
            for sign, meant in SIGNS.items():
                text = text.replace(sign, meant)
            Path(root, path).parent.mkdir(parents=True, exist_ok=True)
            Path(root, path).write_text(text)
            for line, text in enumerate(text.split("\n"), 1):
                for rule, count in re.findall(r"~(\w+)(?:\*(\d))?", text):
                    wanted[path, line, rule] = int(count or 1)
        output("git", "init", "--quiet", root)
        _, findings = check(root)
    found = Counter((path, line, rule) for path, line, _, rule in findings)
    bad = [f"missed: {lost}" for lost in wanted - found] + [f"not wanted: {extra}" for extra in found - wanted]
    bad += [f"never planted: {rule}" for rule in RULES.keys() - {rule for _, _, rule in wanted}]
    print(*bad, f"tidy: self-test, {sum(wanted.values())} violations planted, {len(bad)} mistakes", sep="\n")
    return bool(bad)

def check(root):
    tree = Tree(os.path.realpath(root))
    return tree, sorted({(*found[:3], name) for name, rule in RULES.items() for found in rule(tree)})

def main():
    tree, findings = check(Path(__file__).parent.parent)
    for path, line, message, _ in findings:
        print(f"{path}:{line}: {message}")
    print(f"tidy: {len(tree.paths)} files, {len(RULES)} rules, {len(findings)} findings")
    return bool(findings)

if __name__ == "__main__":
    sys.exit(self_test() if "--self-test" in sys.argv else main())
