# SPDX-License-Identifier: Apache-2.0
"""What serde_json says of a JSON text that does not fit a type, and where: lines and columns count bytes from 1."""
import json


def position(text, offset):
    """The place after `offset` bytes were read."""
    before = text.encode()[:offset]
    return f"line {before.count(bytes([10])) + 1} column {offset - (before.rfind(bytes([10])) + 1)}"


def end_of(text, part, start=0):
    """How many bytes had been read when `part` was."""
    return len(text[:text.index(part, start) + len(part)].encode())


def alternatives(names):
    quoted = [f"`{n}`" for n in names]
    if len(quoted) <= 2:
        return "expected " + " or ".join(quoted)
    return "expected one of " + ", ".join(quoted)


def shown(value):
    """A value as it is named in an error."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"boolean `{json.dumps(value)}`"
    if isinstance(value, int):
        return f"integer `{value}`"
    if isinstance(value, float):
        return f"floating point `{value}`"
    if isinstance(value, str):
        return f"string {json.dumps(value)}"
    return "sequence" if isinstance(value, list) else "map"


def wrong_type(body, field, expected):
    """The message for a body, a dict, one of whose fields has a value that is not `expected`; the body's text."""
    text = json.dumps(body)
    start = end_of(text, f'"{field}": ')
    value = body[field]
    # a map or a sequence is refused before it is read
    offset = start if isinstance(value, (dict, list)) else start + len(json.dumps(value).encode())
    return text, f"invalid type: {shown(value)}, expected {expected} at {position(text, offset)}"


def out_of_range(body, field, expected):
    text, message = wrong_type(body, field, expected)
    return text, message.replace("invalid type", "invalid value")


def unknown_variant(body, field, words):
    text = json.dumps(body)
    offset = end_of(text, f'"{field}": ') + len(json.dumps(body[field]).encode())
    return text, f"unknown variant `{body[field]}`, {alternatives(words)} at {position(text, offset)}"


def no_variant(body, field):
    """For a value of an enumeration that is no string."""
    text = json.dumps(body)
    return text, f"expected value at {position(text, end_of(text, chr(34) + field + chr(34) + ': ') + 1)}"


def unknown_field(body, field, names):
    text = json.dumps(body)
    return text, f"unknown field `{field}`, {alternatives(names)} at {position(text, end_of(text, chr(34) + field + chr(34)))}"


def missing_field(body, field):
    text = json.dumps(body)
    return text, f"missing field `{field}` at {position(text, len(text.encode()))}"


def duplicate_field(body, field):
    """A body with that field twice."""
    text = json.dumps(body)
    text = text[:-1] + f', "{field}": {json.dumps(body[field])}}}'
    second = text.rindex(f'"{field}"') + len(field) + 2
    return text, f"duplicate field `{field}` at {position(text, len(text[:second].encode()))}"
