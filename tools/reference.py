#!/usr/bin/env python3
"""Writes docs/reference/ from the code, the table in docs/benchmarks.md from docs/sizing.json, and an explained setting.

tools/reference.py [--check]: --check writes nothing and names what is stale.
"""

import sys
from pathlib import Path

from reference_pages.of_code import commands, constants, exit_codes, facts, settings
from reference_pages.of_output import json_and_csv, role_variables, with_explanation
from reference_pages.of_project import project_file, workload
from reference_pages.texts import INTRODUCTIONS
from sizing.report import kept, with_table

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
ASK_WHY = ROOT / "docs" / "how-to" / "ask-why.md"
MARK = "<!-- Written by tools/reference.py; do not edit. -->"
PAGES = {
    "commands": commands,
    "constants": constants,
    "exit-codes": exit_codes,
    "facts": facts,
    "json": json_and_csv,
    "project-file": project_file,
    "role-variables": role_variables,
    "settings": settings,
    "workload": workload,
}


def documents() -> dict[Path, str]:
    """Every generated document as it should be."""
    found = {
        ROOT / "docs" / "reference" / f"{name}.md": "\n\n".join([INTRODUCTIONS[name], *page(), MARK]) + "\n"
        for name, page in PAGES.items()
    }
    found[BENCHMARKS] = with_table(BENCHMARKS.read_text(encoding="utf-8"), kept(ROOT / "docs" / "sizing.json"))
    found[ASK_WHY] = with_explanation(ASK_WHY.read_text(encoding="utf-8"))
    return found


def stale() -> list[str]:
    """The documents that say something else than the code."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, text in documents().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main() -> None:
    """Write, or with --check only compare."""
    if sys.argv[1:] != ["--check"]:
        for path, text in documents().items():
            path.write_text(text, encoding="utf-8")
    elif names := stale():
        sys.exit(f"stale: {', '.join(names)}; run: .venv/bin/python tools/reference.py")


if __name__ == "__main__":
    main()
