"""What a play leaves on the host, whether it ended or was killed: files, links and units."""

import re
from collections.abc import Sequence

# A line for each file or unit: its name, a tab, and what would change if it did. What lies in a release or a virtual
# environment is made aside and never changed, so these are only named.
LOOK = r"""
find /etc /usr/local /var/lib/notes -xdev ! -type d -printf '%p\t%s %T@ %l\n'
find /srv -xdev \( -path '/srv/notes/releases/*' -o -path '/srv/notes/venvs/*' \) -prune -printf '%p\t%y\n' \
  -o -type d -printf '%p\tdirectory\n' -o -printf '%p\t%s %T@ %l\n'
find /run -maxdepth 1 -name 'notes*' -printf '%p\t%y\n'
for unit in notes.socket notes@a notes@b notes-preflight notes-activate nginx; do
  properties='-p ActiveState -p UnitFileState -p MainPID -p NeedDaemonReload'
  printf '%s\t' $unit; echo $(systemctl show $properties $unit)
done
test -s /run/notes.lock && printf 'the lock\theld\n' || printf 'the lock\tfree\n'
"""
LEFT = re.compile(
    r"(\.partial|\.build|\.new|\.pending|\.tar\.gz|/slots/preflight)\t|\theld|=failed|=activating|NeedDaemonReload=yes"
)
RELEASE = re.compile(r"(/releases/|/configurations/)([0-9a-f]{12})")
PRUNED = re.compile(r"- /srv/notes/(releases|configurations)/old(/|$)")
SLOT = re.compile(r"(notes[@-]|slots/)([ab])\b")


def differences(before: str, after: str, active: str) -> frozenset[str]:
    """What came, went or changed between two looks, in words that are the same for each deploy; `active` is the first's slot.

    Whether the lock is held counts as it is, because a play that was killed before has left it as well. That old releases
    and configurations were removed is left out: how many there were to remove depends on the plays before.
    """
    was, now = (dict(line.split("\t") for line in look.splitlines()) for look in (before, after))
    known = {found[2] for found in RELEASE.finditer(before)}
    lock = now.pop("the lock")
    was.pop("the lock")

    def named(what: str) -> str:
        what = RELEASE.sub(lambda found: found[1] + ("old" if found[2] in known else "new"), what)
        return SLOT.sub(lambda found: found[1] + ("active" if found[2] == active else "idle"), what)

    changed = {what for what in was.keys() | now.keys() if was.get(what) != now.get(what)}
    signs = {(True, True): "~", (True, False): "-", (False, True): "+"}
    found = {f"{signs[what in was, what in now]} {named(what)}" for what in changed}
    return frozenset({each for each in found if not PRUNED.match(each)} | {f"lock {lock}"})


def left(look: str) -> Sequence[str]:
    """What has no place on a host on which no play runs: half a release, a change that waits, a unit that failed."""
    return [line for line in look.splitlines() if LEFT.search(line)]
