"""Every number of the plan is a number of the running host."""

import warnings
from collections.abc import Mapping
from typing import Any

from living import Living
from readers import READERS, NoEvidence, Reader, Value

MEMORY = {"systemd.MemoryHigh", "systemd.MemoryMax"}


def agrees(name: str, planned: Value, living: Value, page_bytes: int) -> bool:
    """Equal, but for memory: the kernel counts it in whole pages."""
    if name in MEMORY and isinstance(planned, int):
        return planned - page_bytes < living <= planned  # type: ignore[operator]
    return (type(planned) is bool and planned is living) or planned == living


def difference(living: Living, name: str, planned: Value, reader: Reader) -> str | None:
    """One line on a setting whose living value is another than the planned one."""
    try:
        value = reader(living)
    except NoEvidence as nothing:
        warnings.warn(f"{name} could not be seen: {nothing}", stacklevel=2)
        return None
    except (AssertionError, LookupError) as failure:
        return f"{name}: planned {planned!r}; {failure}"
    if value is None or agrees(name, planned, value, living.stack["page_bytes"]):
        return None
    return f"{name}: planned {planned!r}, living {value!r}"


def test_every_setting_of_the_plan_is_in_force(living: Living, plan: Mapping[str, Any]) -> None:
    planned = {name: setting["value"] for name, setting in plan["settings"].items()}
    unread = sorted(planned.keys() - READERS.keys())
    assert not unread, f"nobody reads the living value of {', '.join(unread)}: add a reader to readers.py"
    found = [difference(living, name, value, reader) for name, value in planned.items() for reader in READERS[name]]
    assert not list(filter(None, found)), "\n".join(filter(None, found))
