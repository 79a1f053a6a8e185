"""Tables, values and numbers in Markdown."""

import json
import re
from collections.abc import Iterable


def table(*heads: str, rows: Iterable[Iterable[str]]) -> str:
    """A table of these columns."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def shown(value: object) -> str:
    """A default as code; nothing for none."""
    code = json.dumps(value, ensure_ascii=False).strip('"').removesuffix(".0")
    return "" if value is None or value in ([], {}) else f"`{code}`"


def thousands(value: float) -> str:
    """A number as people write it: `10,000`."""
    return f"{value:,.10g}" if isinstance(value, float) else f"{value:,}"


def grouped(text: str) -> str:
    """A text with its whole numbers written so."""
    return re.sub(r"\d{4,}", lambda found: thousands(int(found[0])), text)
