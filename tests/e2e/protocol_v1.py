"""The JSON Schema of moongate.v1, for both directions."""

import json

from jsonschema import Draft202012Validator

from gateway import ROOT

SPECIFICATION = ROOT / "docs/protocols/moongate-v1.md"
SCHEMA = json.loads(SPECIFICATION.with_suffix(".schema.json").read_text())


def validator(definition: str) -> Draft202012Validator:
    """What checks frames against one of the schema's definitions, such as `request` or `answer`."""
    return Draft202012Validator({"$ref": f"#/$defs/{definition}", "$defs": SCHEMA["$defs"]})


REQUEST, ANSWER = validator("request"), validator("answer")
