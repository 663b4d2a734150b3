"""axe-core in a page of a real browser: what keeps people with disabilities from using it."""

from __future__ import annotations

import json
from importlib.resources import files

from browser import Page

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")
"""What is looked at, by axe's own names."""


async def wish(page: Page, scheme: str) -> None:
    """The user wishes `light` or `dark`, and that nothing moves: what fades is hard to read for a moment."""
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    await page.command("Emulation.setEmulatedMedia", features=features)


async def barriers(page: Page) -> list[str]:
    """What axe finds wrong with what is to be seen, each as rule, element and cure."""
    await page.run(files("axe_core_python").joinpath("axe.min.js").read_text() + "\n;undefined")
    found = await page.run(
        f"""axe.run(document, {{ runOnly: {json.dumps(RULES)} }}).then(({{ violations }}) =>
            violations.flatMap(({{ id, nodes }}) => nodes.map((node) =>
                `${{id}}: ${{node.html}}: ${{node.failureSummary}}`)))"""
    )
    return list(found)
