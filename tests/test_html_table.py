"""Tables that notebooks show."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from rl_framework.html_table import html_table


class Parser(HTMLParser):
    """Checks that every element is closed, and gathers the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(page: str) -> Parser:
    parser = Parser()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_title_rows_and_note_are_text_whatever_they_hold() -> None:
    hostile = "<img src=x onerror=alert(1)>&\"'"
    found = parsed(html_table(hostile, [(hostile, hostile), ("lines", f"one\n{hostile}")], hostile))
    assert found.text == [hostile, hostile, hostile, "lines", "one", hostile, hostile]
    assert found.tags == {"table", "caption", "tbody", "tr", "th", "td", "br", "p"}


def test_it_has_the_colours_of_the_page() -> None:
    page = html_table("title", [("name", "value")], "note")
    assert not re.search(r"#[0-9a-f]{3,6}|rgb|black|white", page)
    assert set(re.findall(r"background:(\w+)", page)) == {"transparent"}


def test_without_a_note_there_is_no_paragraph() -> None:
    assert "p" not in parsed(html_table("title", [])).tags
