"""What the reference says beside what it takes from the code: introductions, and the meaning of keys that have none there."""

JSON_KEYS = {
    "environment": "name of the environment",
    "hosts": "the plans by host",
    "hosts.HOST": "the plan of one host",
    "hosts.HOST.sized_for": "what the host was sized for",
    "hosts.HOST.sized_for.cpus": "CPUs that the application may use",
    "hosts.HOST.sized_for.memory_mb": "memory that it may use, in MB",
    "hosts.HOST.settings": "every [setting](settings.md) by its name",
    "hosts.HOST.settings.SETTING": "one setting",
    "hosts.HOST.settings.SETTING.value": "its value, in the unit that the program itself assumes",
    "hosts.HOST.settings.SETTING.provenance": "`default`, `fact`, `measured`, `calculated` or `override`",
    "hosts.HOST.settings.SETTING.reason": "why, with the numbers; for people",
    "hosts.HOST.predicted": "what the plan promises",
    "hosts.HOST.predicted.capacity_rps": "requests a second that the host carries",
    "hosts.HOST.predicted.memory_mb": "memory of one slot, in MB",
    "hosts.HOST.predicted.bound": "what keeps the host from carrying more; for people",
    "hosts.HOST.predicted.p95_seconds": "95th percentile of the latency at the peak; only where the workload states `peak_rps` "
    "and the host carries it",
    "hosts.HOST.warnings": "list of what to know before deploying; for people",
    "hosts.HOST.rules": "only with `--rules`: the same host sized by common rules of thumb",
    "hosts.HOST.rules.p95_at_rps": "requests a second at which the latencies below are predicted",
    "hosts.HOST.rules.choices": "Farrier's choice, then one entry for each rule",
    "hosts.HOST.rules.choices[].name": "whose rule it is",
    "hosts.HOST.rules.choices[].formula": "the rule; n is the number of CPUs, R the memory, M that of a worker",
    "hosts.HOST.rules.choices[].workers": "worker processes",
    "hosts.HOST.rules.choices[].threads": "threads of each",
    "hosts.HOST.rules.choices[].capacity_rps": "requests a second",
    "hosts.HOST.rules.choices[].memory_mb": "memory of one slot, in MB",
    "hosts.HOST.rules.choices[].fits": "whether memory and database connections hold it",
    "hosts.HOST.rules.choices[].p95_seconds": "95th percentile of the latency; null where it cannot carry that rate",
    "hosts_without_facts": "hosts of the inventory that have no facts, and therefore no plan",
}

ONE_RUN_VARIABLES = {
    "<role>_source": "another directory or git URL than `application.source`",
    "<role>_source_ref": "another tag, branch or commit than `application.ref`; only where the source is a git URL",
    "release": "in the rollback playbook: the release to go back to, instead of the one before",
}

INTRODUCTIONS = {
    "commands": """# Commands

`--help` (`-h`) of each command prints the same. `farrier --version` prints the version, and `farrier --install-completion` sets up
completion in your shell (`farrier --show-completion` prints it). `facts`, `measure` and `loadtest` pass what follows `--` on to
Ansible: `farrier facts production -- --become`.""",
    "constants": """# Constants

What the formulas assume, and why. All of them are in [policy.py](../../generator/farrier/policy.py), and
`farrier plan ENV --explain SETTING` names those that a setting depends on.""",
    "exit-codes": """# Exit codes

An error is one line: the bad value, where it came from, and what would be right. Nothing is half-written. Ctrl-C ends a
command with 130.""",
    "facts": """# Facts

What `farrier facts ENV` writes to `facts/ENV/HOST.json`. State any of them yourself by name: under `facts:` (all hosts of an
environment) or `hosts:` (one host) in `farrier.yml`, or with `--fact NAME=VALUE`. Without `cpus` and `memory_mb` nothing can be
sized; everything else may be unknown. The document also holds `schema` (1), `host`, and `others`: the other services with
their `name`, `memory_mb` and `cpus`.""",
    "json": """# JSON and CSV

`farrier plan ENV --json` is a contract for other programs: keys are only ever added.""",
    "project-file": """# Project file

The keys of `farrier.yml`. Unknown keys are errors, mistakes are reported together, each with its line, and
Ansible evaluates none of it: values arrive in the application's environment as they stand. Editors can check the file
against [farrier.schema.json](../../farrier.schema.json).""",
    "role-variables": """# Role variables

`<role>` is `<application>_<environment>`, with underscores for hyphens: `notes_production`. It is the name of the role and the
prefix of its variables. Set them in `host_vars` or `group_vars`; the role's `defaults/main.yml` holds the default of each
with its reason.""",
    "settings": """# Settings

What a plan decides. Name them under `overrides:` in `farrier.yml` to decide yourself: Farrier then keeps your value and checks it
against the memory and the timeouts. Plain numbers are in the unit that the program itself assumes. `<role>` is
`<application>_<environment>`, with underscores for hyphens: `notes_production`.""",
    "workload": """# Workload keys

What one request costs and what is asked for: under `environments.ENV.workload` in `farrier.yml`, or in a file of its own
that is named there, as `farrier measure` writes it. Every key is optional. A figure that you leave out is assumed, and the
plan says so.""",
}

CSV = """## Columns of `loadtests/ENV/HOST.csv`

One line for each step of `farrier loadtest`; what is unknown is empty. CPU is in CPUs (seconds a second)."""
