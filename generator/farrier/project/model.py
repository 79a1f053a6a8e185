"""The project file's contents, validated as a whole: the application, its environments, its scenarios."""

import re
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, StrictBool, Tag, field_validator, model_validator

from farrier.project.git_url import GIT_URL, git_url_fault
from farrier.project.reserved import why_not_a_name
from farrier.project.values import (
    SOURCE_DIRECTORY,
    Command,
    EnvironmentValue,
    HostName,
    HostsPattern,
    InnerPath,
    InventoryHost,
    Model,
    Name,
    Overrides,
    RequestPath,
    Stated,
    UrlPath,
    VariableName,
    Weight,
    check_variables,
    inside,
)
from farrier.project.workload import Workload


class Static(Model):
    """Files that NGINX serves itself."""

    url: Annotated[
        str, Field(pattern=r"^/(\.?[A-Za-z0-9_~-][A-Za-z0-9._~-]*/)+$", description="the URL prefix, such as /static/")
    ]
    directory: InnerPath = Field(description="their directory inside the release, such as static_root")
    command: Command | None = Field(
        None, description="the command that collects them, such as python manage.py collectstatic --noinput"
    )


class Application(Model):
    """What is deployed."""

    name: Name = Field(description="lower-case letters, digits and single hyphens, at most 30, such as notes")
    source: str = Field(
        ".",
        description="a directory relative to farrier.yml, or a git URL; files ignored by git or by its .farrierignore are left out",
        max_length=500,
    )
    ref: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=200)] | None = Field(
        None, description="the tag, branch or commit to deploy from a git URL, such as v1.2.0"
    )
    wsgi: Annotated[
        str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_.]*(\(\))?$")
    ] = Field(description="module:callable, such as notes.wsgi:application")
    requirements: InnerPath = Field("requirements.txt", description="the requirements or lock file inside the source")
    health_path: UrlPath = Field(
        "/", description="a path that answers 2xx or 3xx when the application is well, such as /health/"
    )
    urls: dict[RequestPath, Weight] = Field(
        default_factory=dict,
        max_length=50,
        description="paths that `farrier measure` requests, with their shares of the traffic, such as /: 3",
    )
    migrate: Command | None = Field(
        None, description="the command that migrates the database, such as python manage.py migrate"
    )
    static: Static | None = Field(None, description="url and directory of the static files")
    environment: dict[VariableName, EnvironmentValue] = Field(
        default_factory=dict,
        description="environment variables with text values, quoted where YAML would read something else",
    )
    secrets: list[VariableName] = Field(
        default_factory=list, description="names of environment variables whose values come from Ansible vault"
    )

    @field_validator("name")
    @classmethod
    def _free_name(cls, value: str) -> str:
        if why := why_not_a_name(value):
            raise ValueError(why)
        return value

    @field_validator("source")
    @classmethod
    def _source(cls, value: str) -> str:
        # A URL with a password is refused below, by a message that does not repeat it.
        if not git_url_fault(value) and not GIT_URL.fullmatch(value) and not SOURCE_DIRECTORY.fullmatch(value):
            raise ValueError("is neither a plain relative directory nor a git URL (https, ssh, file or USER@HOST:PATH)")
        return value

    @field_validator("requirements")
    @classmethod
    def _requirements_inside(cls, value: str) -> str:
        return inside(value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if fault := git_url_fault(self.source):
            raise ValueError(fault)
        if self.is_git and self.ref is None:
            raise ValueError("ref is missing: a git URL needs the tag, branch or commit to deploy")
        if not self.is_git and self.ref is not None:
            raise ValueError(f"ref {self.ref!r} needs a git URL, but source is a directory")
        check_variables({*self.environment, *self.secrets})
        if both := sorted(set(self.environment) & set(self.secrets)):
            raise ValueError(f"{', '.join(both)} is under both environment and secrets; keep one")
        return self

    @property
    def is_git(self) -> bool:
        """Whether the source is a git URL."""
        return "://" in self.source or "@" in self.source


WorkloadOrPath = Annotated[
    Annotated[Workload, Tag("mapping")] | Annotated[InnerPath, Tag("path")],
    Discriminator(lambda value: "path" if isinstance(value, str) else "mapping"),
]


AbsolutePath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$")]


class Tls(Model):
    """Certificate and key that already exist on the host."""

    certificate: Annotated[AbsolutePath, Field(description="absolute path of the certificate chain on the host")]
    key: Annotated[AbsolutePath, Field(description="absolute path of the private key on the host")]


class Environment(Model):
    """One role: where it is deployed, and for what load."""

    inventory: Annotated[str, Field(pattern=r"^[A-Za-z0-9_./][A-Za-z0-9_./+-]*$", max_length=500)] = Field(
        description="the path of an Ansible inventory, relative to farrier.yml, such as inventories/production.yml"
    )
    group: HostsPattern = Field(
        "all", description="the inventory group to deploy to, or an Ansible host pattern, such as web:!db"
    )
    domain: HostName = Field(
        description="a host name in lower case (an internationalised one as xn--...), such as www.example.org"
    )
    aliases: list[HostName] = Field(default_factory=list, description="additional host names")
    environment: dict[VariableName, EnvironmentValue] = Field(
        default_factory=dict, description="variables added to the application's"
    )
    workload: WorkloadOrPath = Field(
        default_factory=Workload, description="a mapping, or the path of a YAML file with these keys"
    )
    overrides: Overrides = Field(default_factory=dict, description="settings by name, such as gunicorn.workers: 3")
    facts: Stated = Field(default_factory=dict, description="facts for all hosts, such as memory_mb: 3936")
    hosts: dict[InventoryHost, Stated] = Field(default_factory=dict, description="facts for single hosts, by name")
    tls: Tls | None = Field(None, description="certificate and key on the host")
    release_header: StrictBool = Field(False, description="true to name the release in a response header, X-Release")
    metrics_directory: AbsolutePath | None = Field(
        None, description="node_exporter's directory for text files, such as /var/lib/prometheus/node-exporter"
    )

    @property
    def groups(self) -> tuple[str, ...]:
        """The group names that the host pattern includes: it matches a host in groups of these names."""
        words = re.split("[:,]", re.sub(r"\[[^]]*\]", "", self.group))
        names = [re.sub("[&*]", "", word) for word in words if not word.startswith("!")]
        return tuple(dict.fromkeys(name for name in names if name not in ("", "all")))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_variables(self.environment)
        if self.domain in self.aliases or len(set(self.aliases)) < len(self.aliases):
            raise ValueError("aliases repeat a host name; list each name once")
        return self


class Scenario(Model):
    """A Molecule scenario besides the one that every environment has."""

    environment: Name = Field(description="the environment whose role it tests")
    system: Literal["debian12", "debian13"] | None = Field(None, description="debian12 or debian13")
    cpus: float | None = Field(None, gt=0, le=64, description="CPUs of the test host, such as 1")
    memory_mb: int | None = Field(
        None, ge=256, le=1_000_000, description="memory of the test host in whole MB, such as 512"
    )
    overrides: Overrides = Field(default_factory=dict, description="settings by name for this test host")


class Project(Model):
    """farrier.yml."""

    application: Application = Field(description="the application")
    environments: dict[Name, Environment] = Field(min_length=1, description="at least one environment by name")
    scenarios: dict[Name, Scenario] = Field(default_factory=dict, description="additional Molecule scenarios by name")

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name in self.environments:
            if name == "shared" or name.endswith(("-rollback", "-status")):
                raise ValueError(f"environment {name!r} would collide with a generated file; choose another name")
            secret = set(self.application.secrets) & set(self.environments[name].environment)
            if secret:
                raise ValueError(
                    f"{', '.join(sorted(secret))} is both a secret and in the environment of {name!r}; remove one"
                )
        for name, scenario in self.scenarios.items():
            if scenario.environment not in self.environments:
                raise ValueError(
                    f"scenario {name!r} names environment {scenario.environment!r}; known are "
                    f"{', '.join(self.environments)}"
                )
            if name in self.environments or name == "shared":
                raise ValueError(f"scenario {name!r} would collide with a generated one; choose another name")
        return self

    def role(self, environment: str) -> str:
        """The name of an environment's role, and the prefix of its variables."""
        return f"{self.application.name}_{environment}".replace("-", "_")
