"""Sphinx settings. The pages under ``generated/`` are written here, before any page is read."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

sys.path.insert(0, str(Path(__file__).parent))  # the generators stand beside this file

import generate_array
import generate_config
import generate_dask
import generate_protocol
import generate_states

from zcluster.version import __version__

project = "zcluster"
author = "zcluster developers"
copyright = "2026, zcluster developers"
version = release = __version__

extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"zcluster {__version__}"
nitpicky = True


def generate(app: Sphinx) -> None:
    try:
        generate_array.generate()
        generate_config.generate()
        generate_dask.generate()
        generate_protocol.generate()
        generate_states.generate()
    except (
        generate_dask.GenerateError,
        generate_protocol.GenerateError,
        generate_states.GenerateError,
    ) as error:
        raise ExtensionError(str(error)) from error


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", generate)
    return {"parallel_read_safe": True}
