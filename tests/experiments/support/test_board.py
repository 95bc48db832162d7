"""The board of trainings as a log file or a pipe sees it."""

from experiments.support.trainings.board import Board


def test_what_comes_after_the_board_begins_a_line_where_there_is_no_terminal(capsys):
    board = Board([("none seed 0", 10)])
    with board.shown():
        board.done(0, 1.0)
    print("what comes after")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split() == ["none", "1/1", "1.000"]
    assert lines[-1] == "what comes after"
