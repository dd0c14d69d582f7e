from __future__ import annotations

from finetune.canvas import draw, legible, title


def test_what_the_font_cannot_draw_is_not_legible() -> None:
    assert legible("grün, naïve") == "grün, naïve"
    for text in ("", "  ", "猫", "🎉", "a\nb", "\x00"):
        assert legible(text) is None
    assert legible("a long label, its middle left out, of 45 letters") == "a long label,…45 letters"


def test_a_dollar_sign_in_a_title_is_no_formula() -> None:
    # matplotlib would fail at what it takes for one.
    with draw(width=3, height=2) as (figure, png):
        title(figure, r"$\frac$", "$x^$")
        assert png()
