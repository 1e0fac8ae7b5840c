import json
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from toy_pictures import TABLE, check_file, in_another_process, size_of

from fgvr.callbacks import TrackioLogger
from fgvr.errors import UserError

TRACKIO = """
import sys
from fgvr.callbacks import TrackioLogger
from toy_pictures import shown

for part in (1, 2):
    logger = TrackioLogger("birds", "first")
    logger.log_hyperparams({"seed": 0})
    logger.log_metrics({"loss": 2.5}, 4 * part)
    logger.finalize("success")
shown(sys.argv[1], TrackioLogger("birds", "first"))
"""


@pytest.mark.skipif(find_spec("trackio") is not None, reason="Trackio is installed")
def test_without_trackio_one_is_told_what_to_install() -> None:
    with pytest.raises(UserError, match=r"not installed: pip install 'fgvr\[trackio\]'"):
        TrackioLogger()


def test_figures_pictures_and_tables_are_in_trackios_own_files(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    in_another_process(TRACKIO, tmp_path / "run", TRACKIO_DIR=str(tmp_path / "trackio"))
    check_file(tmp_path / "run")
    (picture,) = (tmp_path / "trackio").rglob("*.png")
    assert size_of(picture) == (40, 30)
    with closing(sqlite3.connect(tmp_path / "trackio" / "birds.db")) as database:
        logged = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
    assert {name for name, *_ in logged} == {"first"}
    assert [step for _, step, _ in logged] == [4, 8, 0, 0]
    values = [json.loads(metrics) for *_, metrics in logged]
    assert values[:2] == [{"loss": 2.5}, {"loss": 2.5}]
    assert values[2]["answers/seen"]["_type"] == "trackio.image"
    (wren, crane) = values[3]["answers/seen/table"]["_value"]
    assert (wren["name"], crane["name"]) == ("&#60;b&#62;Wren&#60;&#47;b&#62;", "鳥")  # it would be read as markdown
    assert list(wren) == list(TABLE.columns)
