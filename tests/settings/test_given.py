from pathlib import Path

from fgvr.settings.given import class_given_for, config_files


def test_where_configs_are_named() -> None:
    assert config_files(["--config", "a", "--x", "1", "--config=b", "-c", "d"]) == [Path("a"), Path("b"), Path("d")]


def test_the_class_given_last_counts(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("model: {class_path: a.B, init_args: {policy: {backbone: {class_path: a.C}}}}")
    line = ["--config", str(file)]
    assert class_given_for("model", line) == "a.B"
    assert class_given_for("model", [*line, "--model", "a.D"]) == "a.D"
    assert class_given_for("model.policy.backbone", line) == "a.C"
    assert class_given_for("model.init_args.policy.backbone", [*line, "--model.policy.backbone=a.E"]) == "a.E"
    assert class_given_for("data", line) is None
    assert class_given_for("model", ["--config", str(tmp_path / "none.yaml")]) is None
