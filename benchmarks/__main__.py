"""`python -m benchmarks`: install the tools, measure, write the report. `make bench`, `make bench-quick`."""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.report import chart, page
from benchmarks.rounds import install, measure
from benchmarks.tools import TOOLS
from benchmarks.trees import TREES

FULL = ("code", "many", "images", "huge")
TOP = Path(__file__).parent.parent


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a program, not the library


def main() -> int:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one small tree, 3 rounds, to the terminal alone"
    )
    parser.add_argument("--trees", nargs="+", choices=TREES, default=None)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default: build/bench")
    parser.add_argument("--out", type=Path, default=TOP / "docs" / "benchmarks")
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 5)
    folder = options.folder or TOP / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    tools = [TOOLS[name] for name in options.tools]
    missing = install(tools, TOP / "build" / "bench-tools", say)
    present = [tool for tool in tools if tool.name not in missing]
    versions = {tool.name: tool.version() for tool in present}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        results = {
            name: measure(TREES[name], present, rounds, Path(scratch), say)
            for name in options.trees or (("quick",) if options.quick else FULL)
        }
    report = page(results, versions, missing, rounds, folder)
    if options.quick:
        print(report)  # noqa: T201 - a program, not the library
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "README.md").write_text(report)
    (options.out / "benchmark.svg").write_text(chart(results))
    numbers = {tree: {tool: asdict(one) for tool, one in found.items()} for tree, found in results.items()}
    (options.out / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n")
    say(f"written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
