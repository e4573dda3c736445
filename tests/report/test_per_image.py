from __future__ import annotations

import csv
import importlib.util
import sys

import pytest
import torch

from tests.robustness.victims import linear
from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.report.per_image import check_table, per_image_rows, write_per_image
from tscnc_deploy.robustness import FGSM, PGD, ModelVictim, Threat, evaluate

ROWS = [
    {"index": 7, "engine": "twin", "clean": True, "fgsm": None, "distance": 0.5},
    {"index": 9, "engine": 'a "b",\nc', "clean": False, "fgsm": True, "distance": 0.1},
]


def listed(index=None):
    """Three images of a linear model at known distances, the last one labelled wrongly, under two sets of attacks."""
    model, images, labels, distances = linear(2, 40)
    order = distances.argsort()[[0, 39, 20]]
    images, labels, distances = images[order], labels[order].clone(), distances[order]
    labels[2] = 1 - labels[2]
    threat = Threat(epsilon=distances[0].item() * 1.01)
    attacks = {"twin": [FGSM()], "engine": [FGSM(), PGD(3)]}
    found = {name: evaluate(ModelVictim(model), images, labels, threat, own) for name, own in attacks.items()}
    clean = dict.fromkeys(found, model(images).argmax(1))
    adversarial = {name: model(evaluation.adversarial).argmax(1) for name, evaluation in found.items()}
    rows = per_image_rows(found, images, labels, clean, adversarial, ["cat", "dog"], index)
    return rows, labels.tolist(), threat


def test_every_image_has_a_row_for_every_engine():
    rows, labels, threat = listed(torch.tensor([4, 8, 6]))
    assert [(row["index"], row["engine"]) for row in rows] == [
        (4, "twin"), (8, "twin"), (6, "twin"), (4, "engine"), (8, "engine"), (6, "engine"),
    ]  # fmt: skip
    assert list(rows[0]) == [
        "index", "engine", "label", "class", "clean", "fgsm", "pgd-3", "robust", "prediction",
        "adversarial_prediction", "distance",
    ]  # fmt: skip
    assert all(list(row) == list(rows[0]) for row in rows)
    assert [row["class"] for row in rows[:3]] == [["cat", "dog"][label] for label in labels]
    broken, standing, wrong = rows[3:]
    assert (broken["clean"], broken["fgsm"], broken["pgd-3"], broken["robust"]) == (True, False, False, False)
    assert (broken["prediction"], broken["adversarial_prediction"]) == (labels[0], 1 - labels[0])
    assert broken["distance"] == pytest.approx(threat.epsilon, rel=0.02)
    assert (standing["clean"], standing["robust"], standing["adversarial_prediction"]) == (True, True, labels[1])
    assert (wrong["clean"], wrong["robust"], wrong["prediction"], wrong["distance"]) == (False, False, 1 - labels[2], 0)


def test_an_attack_that_an_engine_did_not_face_has_no_value():
    rows, _, _ = listed()
    assert [row["pgd-3"] for row in rows[:3]] == [None, None, None]
    assert [row["index"] for row in rows] == [0, 1, 2, 0, 1, 2]


def test_a_class_without_a_name_has_its_number():
    model, images, labels, _ = linear(2, 2)
    found = {"twin": evaluate(ModelVictim(model), images, labels, Threat(epsilon=0.01), [FGSM()])}
    rows = per_image_rows(found, images, labels, {"twin": labels}, {"twin": labels}, [])
    assert [row["class"] for row in rows] == [str(label) for label in labels.tolist()]


def test_parts_of_different_lengths_are_refused():
    model, images, labels, _ = linear(2, 4)
    found = {"twin": evaluate(ModelVictim(model), images, labels, Threat(epsilon=0.01), [FGSM()])}
    given = {"twin": labels}
    with pytest.raises(InputError, match="3 images have 4 labels and 3 indices"):
        per_image_rows(found, images[:3], labels, given, given, ["a", "b"])
    with pytest.raises(InputError, match="twin: the evaluation is of 4 images, of 4 and 4 there are predictions"):
        per_image_rows(found, images[:3], labels[:3], given, given, ["a", "b"])


def test_csv_says_true_false_and_nothing(tmp_path):
    path = tmp_path / "rows.csv"
    write_per_image(path, ROWS)
    assert path.read_bytes() == (
        b'index,engine,clean,fgsm,distance\n7,twin,true,,0.5\n9,"a ""b"",\nc",false,true,0.1\n'
    )
    with path.open(newline="") as file:
        assert list(csv.DictReader(file))[1]["engine"] == 'a "b",\nc'
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_keeps_types_or_says_what_it_needs(tmp_path):
    path = tmp_path / "rows.parquet"
    if importlib.util.find_spec("pyarrow") is None:
        with pytest.raises(UnavailableError, match="Parquet needs pyarrow; run: pip install pyarrow"):
            write_per_image(path, ROWS)
        assert list(tmp_path.iterdir()) == []
        return
    import pyarrow.parquet

    write_per_image(path, ROWS)
    table = pyarrow.parquet.read_table(path)
    assert table.to_pylist() == ROWS
    assert [str(field.type) for field in table.schema] == ["int64", "string", "bool", "bool", "double"]


def test_without_pyarrow_it_is_said_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UnavailableError) as caught:
        check_table(tmp_path / "rows.parquet")
    assert str(caught.value).endswith(
        "rows.parquet: Parquet needs pyarrow; run: pip install pyarrow; or write a .csv file"
    )
    assert caught.value.exit_status == 3
    check_table(tmp_path / "rows.CSV")


def test_other_files_and_no_rows_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"rows.json: the name of this file must end in .csv or .parquet"):
        check_table(tmp_path / "rows.json")
    with pytest.raises(InputError, match="no images to list"):
        write_per_image(tmp_path / "rows.csv", [])
