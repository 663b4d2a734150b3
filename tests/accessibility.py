"""axe-core in a page of a real browser: what keeps people with disabilities from using it."""

from __future__ import annotations

import json
from importlib.resources import files

from browser import Page

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")
"""What is looked at, by axe's own names."""


async def barriers(page: Page) -> list[str]:
    """What axe finds wrong with what is to be seen, each as rule, element and cure."""
    await page.run(files("axe_core_python").joinpath("axe.min.js").read_text() + "\n;undefined")
    # What moves is half transparent for a moment.
    await page.until(
        "document.getAnimations().every((one) => one.effect.getTiming().iterations === Infinity)"
    )
    found = await page.run(
        f"""axe.run(document, {{ runOnly: {json.dumps(RULES)} }}).then(({{ violations }}) =>
            violations.flatMap(({{ id, nodes }}) => nodes.map((node) =>
                `${{id}}: ${{node.html}}: ${{node.failureSummary}}`)))"""
    )
    return list(found)
