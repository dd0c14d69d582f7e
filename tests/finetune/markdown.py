"""What a reader sees of Markdown."""

from __future__ import annotations

from markdown_it import MarkdownIt

HOSTILE = 'a "b": |c|\n---\n- <script>alert(1)</script> `d` *e* _f_ [g](h) \\ 🎉 \x00 \u2028 no #'


def html_of(markdown: str) -> str:
    """As the hub shows it."""
    return MarkdownIt("commonmark").enable("table").render(markdown)
