"""Git URLs that a project file may name. Pure; the role checks again, since `-e` may give another one."""

import re

from farrier.wording import shown

_GIT_HOST, _GIT_USER, _GIT_PATH = (
    r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?",
    r"[A-Za-z0-9_][A-Za-z0-9_.-]*",
    r"[A-Za-z0-9_.~/@:+-]+",
)
GIT_URL = re.compile(
    f"https://{_GIT_HOST}/{_GIT_PATH}|ssh://({_GIT_USER}@)?{_GIT_HOST}/{_GIT_PATH}|file:///{_GIT_PATH}"
    f"|{_GIT_USER}@[A-Za-z0-9][A-Za-z0-9.-]*:{_GIT_PATH}"
)


def git_url_fault(url: str) -> str | None:
    """Why a URL must not be written to files under version control; never shows a password."""
    masked = shown(re.sub("://[^/@]*@", "://***@", url))
    if re.match(r"(https?|file)://[^/]*@|[a-z+]+://[^/@]*:[^/@]*@", url):
        return (
            f"source {masked} contains a user, password or token, which would end up in files under version control; "
            "leave it out and use git's credential helper, or an SSH key with git@HOST:PATH"
        )
    if url.startswith(("git://", "http://")):
        return f"source {masked}: the connection is not authenticated, so the code could be replaced on the way; use https or ssh"
    return None
