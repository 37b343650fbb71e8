"""The other side of `Node.call`: run one pickled function in this process and write down what came of it."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import sys
import traceback
from pathlib import Path
from typing import Any

__all__ = ["main"]


def _result(pickled: bytes) -> tuple[Any, BaseException | None]:
    try:
        function, arguments = pickle.loads(pickled)
        value = function(*arguments)
        return (asyncio.run(value) if inspect.iscoroutine(value) else value), None
    except BaseException as error:  # noqa: BLE001 - everything is handed to the caller, who raises it
        error.add_note("in the lab's process:\n" + traceback.format_exc())
        return None, error


def main(question: Path, answer: Path) -> None:
    """Read (sys.path, pickled call) from one file, write (value, error) to the other."""
    sys.path, pickled = pickle.loads(question.read_bytes())
    answer.write_bytes(pickle.dumps(_result(pickled)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
