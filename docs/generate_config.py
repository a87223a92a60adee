"""Write the page of the configuration from its table of keys.

Run by ``conf.py`` at every build, or by hand: ``python docs/generate_config.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zcluster import config
from zcluster.config.defaults import ALIASES, KEYS, Key

OUTPUT = Path(__file__).parent / "generated" / "configuration.md"

HEAD = """\
# Configuration

Made from `zcluster.config.defaults`; edit that file, not this page.

```python
import zcluster.config

zcluster.config.get("worker.memory-limit")
zcluster.config.set({"worker.memory-limit": "2GB"})  # from here on
with zcluster.config.set(scheduler="sync"):          # in this block
    ...
```

In a key `-` and `_` are the same. Where several places set one, the last of these counts:

"""

TAIL = """\

A file is TOML; a section is what stands before the dot:

```toml
progress = false

[worker]
memory-limit = "2GB"
```

A variable holds a Python literal (`2`, `False`, `'text'`), or text as it is. Files and variables
are read at the first use, and again by `zcluster.config.refresh()`. An unknown key gives a warning
with the key it may stand for; a value of the wrong kind is an error that names the file or
variable.

`zcluster config list` prints what counts, `zcluster config find KEY` each place that sets a key,
and `zcluster config set KEY VALUE` writes the user's file.

"""


def render() -> str:
    """Return the whole page, in Markdown."""
    lines = []
    for section in dict.fromkeys(_section(key) for key in KEYS):
        lines += [f"## {section.capitalize() or 'Everywhere'}", ""]
        for key in KEYS:
            if _section(key) == section:
                lines += _describe(key)
    return HEAD + _order() + TAIL + "\n".join(lines).rstrip() + "\n"


def _order() -> str:
    """Return the list of places as the package's own documentation has it."""
    text = config.__doc__ or ""
    begin, end = text.index("1. "), text.index("Files and environment")
    return (
        text[begin:end].strip().replace("``", "`").replace("`set`", "`zcluster.config.set`") + "\n"
    )


def _section(key: Key) -> str:
    return key.name.rpartition(".")[0]


def _describe(key: Key) -> list[str]:
    variables = [key.variable, *(name for name, other in ALIASES.items() if other == key.name)]
    return [
        f"`{key.name}`",
        f": {key.sentence}",
        "",
        f"  Default: {_shown(key.default)}. Expected: {key.expected}.",
        f"  Variable: {' or '.join(f'`{name}`' for name in variables)}.",
        "",
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def generate(output: Path = OUTPUT) -> Path:
    """Write the page, and return its path."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(render(), encoding="utf-8")
    return output


if __name__ == "__main__":
    print(generate())
