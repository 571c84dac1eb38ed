"""What elman's pages share: their head, their colours, what may run in them, and data that no script can escape from.

Each page is one HTML file that loads nothing. Knows nothing of what is shown.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from string import Template
from typing import Any

LIGHT = {
    "paper": "#ffffff", "ink": "#1b1f24", "muted": "#59636f", "line": "#dde2e8", "history": "#76818e",
    "accent": "#0a62b8",
}  # fmt: skip
DARK = {
    "paper": "#14171b", "ink": "#e8eaed", "muted": "#a7b0bb", "line": "#30363e", "history": "#8d97a3",
    "accent": "#62a8f2",
}  # fmt: skip

START = """
"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const get = id => document.getElementById(id);
const node = (parent, name, text = "", kind = "") => {  // text goes in as text, never as HTML
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  parent.append(made);
  return made;
};
"""
"""How scripts begin that make elements from the data."""

_HEAD = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>$title</title>
<style>$style</style>
</head>""")


def head(title: str, style: str, script: str) -> str:
    """The page up to its body. Nothing may be loaded, and but for `style` and `script` nothing may run."""
    policy = f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    return _HEAD.substitute(title=html.escape(title), policy=policy, style=style)


def as_json(data: Any) -> str:
    """JSON to stand in a page."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":  # no end of the script, no comment
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def palette(light: Mapping[str, str], dark: Mapping[str, str]) -> str:
    """Colours by name as variables of the style sheet, by what the reader's system prefers."""
    return f"""
:root {{ {_variables(light)} color-scheme: light dark }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(dark)} }} }}
"""


def _variables(colours: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
