from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from finetune.markdown import escape, table
from tests.finetune.cards import html_of


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
@example("card_payment|__init__|\\|*a*|`b`|[c](d)|<e>|&amp;|~~f~~|_g_")
def test_an_escaped_label_is_shown_as_it_is(text: str) -> None:
    cell = html_of(table(["h"], [[escape(text)]])).partition("<td>")[2].partition("</td>")[0]
    assert cell == text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def test_a_label_with_underscores_is_readable_in_the_source() -> None:
    assert escape("card_payment_not_recognised") == "card_payment_not_recognised"
