#!/usr/bin/env python3
"""What the tests have counted, as a table.

    tests/scoreboard.py FILE          prints the table of the lines in FILE (that THALWEG_SCOREBOARD named)
    tests/scoreboard.py FILE --write  puts it into docs/reliability.md, between its two marks
    tests/scoreboard.py FILE --check  ends with 1 if something was found, or if a method of the lines is
                                      not in that document, or counts something else there

A line is {"method": "...", "counted": {"what": number, ...}, "found": number}; lines of one method are
added up. The figures in the document are those of one run: they may differ from another's.
"""

import json
import sys
from pathlib import Path

DOCUMENT = Path(__file__).parent.parent / "docs/reliability.md"
MARKS = ("<!-- the scoreboard begins -->\n", "<!-- the scoreboard ends -->\n")
HEAD = "| method | counted | found wrong |\n|---|---|--:|\n"

def read(path):
    """The lines of a file, added up: method to what it counted, and how often it found something."""
    methods = {}
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        try:
            entry = json.loads(line)
            counted, found = methods.setdefault(entry["method"], ({}, 0))
            for what, count in entry["counted"].items():
                counted[what] = counted.get(what, 0) + int(count)
            methods[entry["method"]] = (counted, found + int(entry["found"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            sys.exit(f"{path}:{number}: no line of a scoreboard: {error!r}")
    return dict(sorted(methods.items()))

def table(methods):
    def row(method, counted, found):
        figures = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in counted.items())
        return f"| {method} | {figures} | {found} |\n"
    return HEAD + "".join(row(method, *of) for method, of in methods.items())

def parts():
    """The document before, between and behind its marks."""
    before, found, rest = DOCUMENT.read_text().partition(MARKS[0])
    inside, found_too, behind = rest.partition(MARKS[1])
    if not found or not found_too:
        sys.exit(f"{DOCUMENT}: the marks of the scoreboard are missing")
    return before + MARKS[0], inside, MARKS[1] + behind

def names(rows):
    """Of each row of a table: the method, and what it counts."""
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows.splitlines()[2:]]
    what = lambda figures: tuple(figure.split(" ", 1)[1] for figure in figures.split(", ") if " " in figure)
    return {cell[0]: what(cell[1]) for cell in cells if len(cell) == 3}

def check(methods):
    written, wrong = names(parts()[1]), []
    for method, counts in names(table(methods)).items():
        if method not in written:
            wrong.append(f"{method}: not in {DOCUMENT.name}: write it there with --write")
        elif written[method] != counts:
            wrong.append(f"{method}: counts {counts}, in {DOCUMENT.name} {written[method]}")
    wrong += [f"{method}: found something {found} times" for method, (_, found) in methods.items() if found]
    print(*wrong, f"scoreboard: {len(methods)} methods, {len(wrong)} wrong", sep="\n")
    return bool(wrong)

def main():
    options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    files = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    if len(files) != 1 or options not in ([], ["--write"], ["--check"]):
        sys.exit(__doc__)
    methods = read(files[0])
    if options == ["--check"]:
        return check(methods)
    if options == ["--write"]:
        before, _, behind = parts()
        DOCUMENT.write_text(before + table(methods) + behind)
    else:
        print(table(methods), end="")
    return False

if __name__ == "__main__":
    sys.exit(main())
