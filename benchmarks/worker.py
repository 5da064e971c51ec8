"""Serves one contender to harness.Worker, in the interpreter that it needs.

python benchmarks/worker.py MODULE.PEER
"""

from __future__ import annotations

import importlib
import sys

from harness import serve


def main(name: str) -> None:
    place, _, peer = name.partition(".")
    module = importlib.import_module(place)
    given = module.inputs()
    serve(lambda: (*getattr(module, peer)(given), given))


if __name__ == "__main__":
    main(sys.argv[1])
