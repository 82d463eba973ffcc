"""The pages for who uses the project, in the order in which they are read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [
    README,
    *(
        ROOT / "docs" / f"{name}.md"
        for name in (
            "hosts",
            "tools",
            "toolsets",
            "settings",
            "money",
            "files",
            "operations",
            "postgres",
            "client",
            "sandbox",
            "development",
        )
    ),
]


def read_pages() -> str:
    """Return the text of all pages, one after another."""
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
