"""The JSON schema of the project file, for editors: `python -m farrier.project.schema > farrier.schema.json`."""

import json
import sys

from farrier.project.model import Project


def project_schema() -> str:
    """The schema as it is kept in the repository, with a final newline."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Farrier project file",
        **Project.model_json_schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(project_schema())
