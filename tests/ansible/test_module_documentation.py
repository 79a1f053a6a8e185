"""Each module documents the arguments that it takes, as `ansible-doc` shows them and as Ansible checks them."""

import importlib
import pkgutil
from typing import Any

import pytest
import yaml

from farrier.ansible import modules

NAMES = [found.name for found in pkgutil.iter_modules(modules.__path__)]
COMPARED = {"type": "str", "required": False, "default": None, "choices": None, "elements": None}


class Taken(Exception):
    """Carries what a module gives to AnsibleModule, instead of running it."""


def arguments_of(module: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def taken(argument_spec: dict[str, Any], **_: Any) -> None:
        raise Taken(argument_spec)

    monkeypatch.setattr(module, "AnsibleModule", taken)
    with pytest.raises(Taken) as spec:
        module.main()
    found: dict[str, Any] = spec.value.args[0]
    return found


def compared(options: dict[str, Any], inner: str) -> dict[str, Any]:
    """What both sides say of each option, and of those inside it."""
    return {
        name: {key: each.get(key, default) for key, default in COMPARED.items()}
        | {"inner": compared(each.get(inner) or {}, inner)}
        for name, each in options.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_module_documents_the_arguments_that_it_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"{modules.__name__}.{name}")
    documented = yaml.safe_load(module.DOCUMENTATION)
    assert documented["module"] == name
    assert compared(documented["options"], "suboptions") == compared(arguments_of(module, monkeypatch), "options")
