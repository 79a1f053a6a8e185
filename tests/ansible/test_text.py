"""Text of others on a host: nothing that a terminal would obey, and no more than a line can bear."""

import pytest
from ansible.module_utils.farrier_text import printable, shown


@pytest.mark.parametrize(
    ("text", "keep", "made"),
    [
        pytest.param("größer", "", "größer", id="letters"),
        pytest.param("\x1b]0;title\x07\r", "", "\\x1b]0;title\\x07\\r", id="what steers a terminal"),
        pytest.param("a\u202eb\ud800", "", "a\\u202eb\\ud800", id="what turns text around, and half of a pair"),
        pytest.param("a\tb\nc", "\t\n", "a\tb\nc", id="what is to stay"),
        pytest.param("a\tb\nc", "", "a\\tb\\nc", id="one line"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, keep: str, made: str) -> None:
    assert printable(text, keep) == made


def test_a_line_is_cut() -> None:
    assert shown("x" * 200) == "x" * 200
    assert shown("x" * 10**6) == "x" * 200 + "…"
    assert shown("\x1b" * 10**6, 10) == "\\x1b\\x1b\\x…"
    assert shown(["\n"]) == "['\\n']"
