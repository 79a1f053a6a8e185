"""Reads the settings that differ between hosts from the environment, and says what is wrong with them."""

import os

from django.core.exceptions import ImproperlyConfigured

TRUE = {"1", "true", "yes", "on"}
FALSE = {"", "0", "false", "no", "off"}


def text(name: str, default: str = "") -> str:
    """The value of `name`, or `default` where it is unset or empty."""
    return os.environ.get(name, "").strip() or default


def flag(name: str) -> bool:
    """The value of `name` as yes or no; unset means no."""
    value = text(name).lower()
    if value in TRUE:
        return True
    if value in FALSE:
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}: write 1 or 0.")


def comma_list(name: str) -> list[str]:
    """The entries of a comma-separated value; unset means none."""
    return [entry.strip() for entry in text(name).split(",") if entry.strip()]


def secret_key(*, debug: bool) -> str:
    """SECRET_KEY, which only a development server may do without."""
    key = text("SECRET_KEY")
    if key:
        return key
    if debug:
        return "only-for-development"
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. Give the service one in its environment, or set DEBUG=1 on a development machine."
    )
