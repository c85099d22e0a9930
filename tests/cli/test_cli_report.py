"""`r1sharevl report` as a user calls it."""

import pytest

from r1_sharevl.cli import main


def call(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["report", *map(str, arguments)])
    return ended.value.code


def test_the_page_is_in_the_run_folder_or_where_it_is_wanted(tmp_path, capfd):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5, "max_steps": 2}\n')
    assert call(tmp_path) == 0
    assert capfd.readouterr().out.strip() == f"Page: {tmp_path / 'report.html'}"
    assert call(tmp_path, "--out", tmp_path / "other.html") == 0
    assert "<svg" in (tmp_path / "other.html").read_text()


def test_a_wrong_folder_is_one_line(tmp_path, capfd):
    for folder, message in ((tmp_path / "nowhere", "no such folder"), (tmp_path, "holds no training run")):
        assert call(folder) == 2
        errors = capfd.readouterr().err
        assert errors.count("\n") == 1
        assert errors.startswith("error: ")
        assert message in errors
