"""Why each constant of `policy` has its value: the docstrings under the constants, which Python itself does not keep."""

import ast
import inspect
from functools import cache
from itertools import pairwise

from farrier import policy


@cache
def whys() -> dict[str, str]:
    """The sentences below each constant, by its name."""
    body = ast.parse(inspect.getsource(policy)).body
    found = {}
    for statement, below in pairwise(body):
        if (
            isinstance(statement, ast.Assign)
            and isinstance(statement.targets[0], ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            found[statement.targets[0].id] = " ".join(str(below.value.value).split())
    return found
