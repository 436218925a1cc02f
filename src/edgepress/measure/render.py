"""A page that opens offline: one HTML file with its scripts, styles, plots and pictures inside, and a policy that
forbids any request."""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgepress.core.errors import MissingExtraError
from edgepress.measure import charts

PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Figure:
    """A plot of the page: its element's name, what stands above it, and its Vega-Lite specification."""

    name: str
    title: str
    spec: dict[str, Any]


def render(template: str, figures: Sequence[Figure], **values: Any) -> str:
    """Return the page that `template` (a file in `page/`) makes of `values` and the plots.

    Raises `MissingExtraError` on the base install.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise MissingExtraError("the HTML report (jinja2)", "train") from None
    library = _inline(_library()) if figures else ""
    script = _inline((PAGE / "report.js").read_text("utf-8"))
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["names"] = _names
    return environment.get_template(template).render(
        **values,
        tradeoffs=[figure for figure in figures if figure.name.startswith("tradeoff")],
        curves=[figure for figure in figures if figure.name.startswith("curve")],
        specs={figure.name: figure.spec for figure in figures},
        style=(PAGE / "report.css").read_text("utf-8"),
        library=library,
        script=script,
        hashes=" ".join(_hash(text) for text in (library, script) if text),
    )


@cache
def _library() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script, of the Vega-Lite version Altair writes for."""
    try:
        import vl_convert
    except ImportError:
        raise MissingExtraError("the HTML report (vl-convert)", "train") from None
    major, minor = charts.altair().SCHEMA_VERSION.lstrip("v").split(".")[:2]
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=f"{major}.{minor}")


def _inline(script: str) -> str:
    """Return `script` so that it cannot end the element it stands in."""
    return re.sub("<(/script|!--)", r"<\\\1", script, flags=re.IGNORECASE)


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _names(text: str) -> Any:
    """Return `text` as HTML in which what stands between backticks is code, everything escaped."""
    from markupsafe import Markup, escape

    parts = [Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(text.split("`"))]
    return Markup("").join(parts)
