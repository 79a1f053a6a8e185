"""How looks at a host are compared, at looks that were written by hand."""

from traces import differences, left
from witnessed import noted

BEFORE = """\
/srv/notes/active\t7 1700000001.0 slots/b
/srv/notes/releases/aaaaaaaaaaaa\td
/srv/notes/configurations/aaaaaaaaaaaa/environment\t210 1700000000.5 \n\
/srv/notes/slots/a/slot.json\t200 1700000000.0 \n\
notes@a\tMainPID=0 ActiveState=inactive NeedDaemonReload=no
notes@b\tMainPID=77 ActiveState=active NeedDaemonReload=no
the lock\theld
"""


def test_names_are_the_same_for_each_deploy() -> None:
    after = (
        BEFORE.replace("slots/b\n", "slots/a\n")
        .replace(
            "/srv/notes/releases/aaaaaaaaaaaa\td", "/srv/notes/releases/bbbbbbbbbbbb\td\n/run/notes.nginx.pending\tf"
        )
        .replace("slot.json\t200", "slot.json\t201")
        .replace("/configurations/aaaaaaaaaaaa/", "/configurations/cccccccccccc/")
        .replace("MainPID=0 ActiveState=inactive", "MainPID=99 ActiveState=active")
    )
    assert differences(BEFORE, after, "b") == {
        "~ /srv/notes/active",
        "+ /srv/notes/releases/new",
        "+ /srv/notes/configurations/new/environment",
        "+ /run/notes.nginx.pending",
        "~ /srv/notes/slots/idle/slot.json",
        "~ notes@idle",
        "lock held",
    }


def test_nothing_but_the_lock_is_no_difference() -> None:
    assert differences(BEFORE, BEFORE, "b") == {"lock held"}
    assert differences(BEFORE, BEFORE.replace("held", "free"), "b") == {"lock free"}


def test_what_has_no_place_on_a_host_is_found() -> None:
    whole = BEFORE.replace("held", "free")
    assert left(whole) == []
    found = [
        "/srv/notes/releases/cccccccccccc.partial\td",
        "/srv/notes/releases/cccccccccccc.tar.gz\tf",
        "/srv/notes/slots/a/.slot.new\t20 1700000000.0 ",
        "/srv/notes/slots/preflight\tdirectory",
        "/run/notes.nginx.pending\tf",
        "notes@a\tMainPID=0 ActiveState=failed NeedDaemonReload=no",
        "notes@b\tMainPID=77 ActiveState=active NeedDaemonReload=yes",
        "the lock\theld",
    ]
    assert left("\n".join([whole, *found])) == found


def test_a_witness_is_read_as_it_wrote() -> None:
    line = '{"name": "notes_trial : Switch to the release", "outcome": "ok", "begun": 1.0, "ended": 3.5, "seconds": {"whole": 2.4}}'
    (task,) = noted([line])
    assert (task.ended - task.begun, task.seconds["whole"]) == (2.5, 2.4)
