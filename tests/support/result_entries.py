"""Entries of an annotation's result, as Label Studio's page sends them."""


def typed(text, name="prompt"):
    """A prompt in the text area."""
    value = {"text": [text]}
    return {"type": "textarea", "from_name": name, "to_name": "image", "value": value}


def number(value, name="box_threshold"):
    """A number in a Number control."""
    return {"type": "number", "from_name": name, "to_name": "image", "value": {"number": value}}
