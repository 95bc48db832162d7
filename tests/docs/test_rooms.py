"""The rooms that the guide draws are those of the code, and no two of them import each other."""

import re
import subprocess
import sys

from docs import rooms


def test_every_module_is_in_a_room_that_the_guide_describes_and_draws():
    found = rooms.rooms(rooms.modules())
    assert len(found) > 150
    assert set(found.values()) == set(rooms.ROOMS), "say in ROOMS what is in each"
    assert set(rooms.ROOMS) == set(rooms.PLACES), "say in PLACES where each is drawn"


def test_no_import_leads_to_a_storey_that_is_not_below():
    known = rooms.modules()
    pairs = rooms.imports_of_rooms(known, rooms.rooms(known))
    assert len(pairs) > 20
    assert rooms.upward(pairs) == set()


def test_no_two_rooms_within_a_room_need_each_other():
    known = rooms.modules()
    inner = rooms.inner_rooms(known)
    pairs = rooms.imports_of_rooms({name: known[name] for name in inner}, inner)
    assert len(pairs) > 10
    assert [one for one, _ in pairs if rooms.reaches(one, one, pairs)] == []
    assert all(rooms.question_of(one) for one in inner.values())


def test_no_folder_is_a_pile():
    folders = {path.parent for path in rooms.modules().values()}
    counts = {folder: len(list(folder.glob("*.py"))) for folder in folders}
    assert {folder.name: count for folder, count in counts.items() if count > 40} == {}


def test_the_model_and_the_instruments_do_not_import_each_other():
    known = rooms.modules()
    pairs = {
        (one.partition("/")[0].partition(":")[0], other.partition("/")[0].partition(":")[0])
        for one, other in rooms.imports_of_rooms(known, rooms.rooms(known))
    }
    between = {(one, other) for one, other in pairs if one != other}
    assert between == {("experiments", "gpt"), ("experiments", "interp")}


def test_an_arrow_stands_for_every_import_that_does_not_follow_from_others():
    pairs = {("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}
    assert rooms.direct(pairs) == {("a", "b"), ("b", "c"), ("a", "d")}


def test_the_drawing_and_the_table_count_the_lines_that_are_there():
    files = [path for name in rooms.PACKAGES for path in (rooms.ROOT / name).rglob("*.py")]
    total = sum(path.read_bytes().count(b"\n") for path in files)
    assert f"| all | | {len(files)} | {total:,} |" in rooms.tables()
    said = [text.get_text() for text in rooms.drawing().axes[0].texts]
    lines = [re.match(r"([\d,]+) lines", one) for one in said]
    assert sum(int(one[1].replace(",", "")) for one in lines if one) == total


def test_no_file_is_longer_than_400_lines():
    long = [name for name, path in rooms.modules().items() if rooms.lines(path) > 400]
    assert long == []


def test_the_drawing_can_be_made_by_itself(tmp_path):
    subprocess.run([sys.executable, "docs/rooms.py", tmp_path / "rooms.png"], cwd=rooms.ROOT)
    assert (tmp_path / "rooms.png").read_bytes().startswith(b"\x89PNG")
