"""Videos inside notebooks."""

import base64
import re
from html.parser import HTMLParser

import pytest

import rl_framework
from rl_framework.errors import ArgumentError
from rl_framework.report import show_video

GIF = b"GIF89a" + bytes(range(256))
MP4 = b"\0\0\0\x18ftypmp42" + bytes(range(256))


def written(path, content):
    path.write_bytes(content)
    return path


def embedded(shown):
    kind, encoded = re.search(r'src="data:([a-z0-9/]+);base64,([^"]+)"', shown._repr_html_()).groups()
    return kind, base64.b64decode(encoded, validate=True)


@pytest.mark.parametrize(("name", "content", "kind"), [("a.mp4", MP4, "video/mp4"), ("a.GIF", GIF, "image/gif")])
def test_the_notebook_holds_the_whole_video(tmp_path, name, content, kind):
    path = written(tmp_path / name, content)
    shown = rl_framework.show_video(str(path))
    path.unlink()
    assert embedded(shown) == (kind, content)
    assert shown.path == path
    assert name in repr(shown)


def test_a_browser_can_read_it_and_no_name_becomes_html(tmp_path):
    class Parser(HTMLParser):
        found = ()

        def handle_starttag(self, tag, attrs):
            self.found += ((tag, dict(attrs)),)

    path = written(tmp_path / '"><script>.mp4', MP4)
    parser = Parser()
    parser.feed(show_video(path, width=320)._repr_html_())
    assert [tag for tag, _ in parser.found] == ["video", "source"]
    assert parser.found[0][1]["width"] == "320"
    assert parser.found[0][1]["title"] == path.name
    assert {"controls", "muted"} <= set(parser.found[0][1])


def test_one_that_is_too_large_says_how_it_can_be_shown(tmp_path):
    path = written(tmp_path / "long.mp4", MP4 + bytes(2_500_000))
    with pytest.raises(ArgumentError, match=r"has 2\.5 MB, and 2 are put into a notebook at most") as caught:
        show_video(path, max_megabytes=2)
    allowed = int(re.search(r"max_megabytes=(\d+)", str(caught.value))[1])
    assert len(embedded(show_video(path, max_megabytes=allowed))[1]) == path.stat().st_size


@pytest.mark.parametrize(
    ("name", "content", "arguments", "problem"),
    [
        ("a.avi", MP4, {}, "ends with .mp4 or .gif"),
        ("a.mp4", None, {}, "there is no such file"),
        ("a.mp4", GIF, {}, "is no .mp4, whatever its name says"),
        ("a.gif", MP4, {}, "is no .gif, whatever its name says"),
        ("a.mp4", b"", {}, "is no .mp4"),
        ("a.mp4", MP4, {"width": 0}, "width=0"),
        ("a.mp4", MP4, {"width": "100%"}, "width='100%'"),
    ],
    ids=["ending", "missing", "gif-as-mp4", "mp4-as-gif", "empty", "no-width", "width-as-text"],
)
def test_what_cannot_be_shown_is_refused(tmp_path, name, content, arguments, problem):
    if content is not None:
        written(tmp_path / name, content)
    with pytest.raises(ArgumentError, match=re.escape(problem)):
        show_video(tmp_path / name, **arguments)
