from __future__ import annotations

import json

import pytest

from tscnc_deploy.errors import InputError
from tscnc_deploy.verify import order_of, read_names

PETS = ("bird", "cat", "dog")


def read_order(text, classes, outputs=None):
    return order_of(read_names(text), classes, outputs=outputs)


@pytest.fixture
def file(tmp_path):
    def file(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return file


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("bird,cat,dog", (0, 1, 2)),
        ("dog, bird, cat", (1, 2, 0)),
        ("2,0,1", (1, 2, 0)),
        ("02,00,01", (1, 2, 0)),
        ("fish,cat,dog,bird,cow", (3, 1, 2)),
    ],
)
def test_lists(text, order):
    assert read_order(text, PETS) == order


def test_a_line_per_name(file):
    text = file("labels.txt", "\ufeffdog \nbird\r\ngolden retriever, big\ncat\n\n")
    assert read_names(text) == ("dog", "bird", "golden retriever, big", "cat")
    assert read_order(text, PETS, outputs=4) == (1, 3, 0)


@pytest.mark.parametrize(
    ("document", "order"),
    [
        (["dog", "cat", "bird"], (2, 1, 0)),
        ([2, 0, 1], (1, 2, 0)),
        ({"0": "dog", "2": "bird", "1": "cat"}, (2, 1, 0)),
        ({"model_type": "resnet", "id2label": {"0": "cat", "1": "dog", "2": "bird"}, "label2id": {}}, (2, 0, 1)),
        ({"architecture": "resnet18", "label_names": ["bird", "dog", "cat"]}, (0, 2, 1)),
        ({"207": "dog", "15": "bird", "281": "cat"}, (15, 281, 207)),
    ],
)
def test_json(file, document, order):
    assert read_order(file("labels.JSON", json.dumps(document)), PETS) == order


def test_classes_that_are_called_by_numbers():
    # As names and as indices these say the same.
    assert read_order("3,1,0,2", ("0", "1", "2", "3")) == (2, 1, 3, 0)
    # Names win over indices where both could be meant.
    assert read_order("2,0,1", ("1", "2", "0")) == (2, 0, 1)
    assert read_order("2,0,1", ("5", "6", "7")) == (1, 2, 0)


def test_the_number_of_logits_is_compared():
    names = tuple(f"class {place}" for place in range(1000))
    assert order_of(names, ("class 7", "class 3"), outputs=1000) == (7, 3)
    # Files of TensorFlow have a background before the thousand.
    for outputs in (1001, 999):
        message = f"--labels names 1000 logits, but the model has {outputs}"
        with pytest.raises(InputError, match=message):
            order_of(names, ("class 7", "class 3"), outputs=outputs)
    assert order_of((None, "a", None, "b"), ("a", "b"), outputs=1001) == (1, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bird,cta,dog", r"--labels names no 'cat' of the data set's classes; did you mean cta\?"),
        ("Bird,Cat,Dog", r"names no 'bird', 'cat', 'dog' of .*; did you mean Bird\?"),
        ("apple", "names no 'bird', 'cat', 'dog'"),
        ("bird,cat,dog,cat", "gives the class 'cat' to the logits 1 and 3; each class has one"),
        ("0,1,3", "names class 3; the data set has 3, from 0 to 2"),
        ("1,2,3", "names class 3; the data set has 3, from 0 to 2"),
        ("0,1", "names no '2'"),
        ("0,1,2,1", "gives the class '1' to the logits 1 and 3"),
        ("bird,,dog", "name 2 is empty; write names of classes separated by commas"),
        ("", "name 1 is empty"),
        ("9" * 5000, "names no 'bird'"),
        ("labels.txt", r"--labels labels\.txt: cannot be read: No such file"),
        ("labels.json", r"--labels labels\.json: cannot be read: No such file"),
    ],
)
def test_lists_that_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        read_order(text, PETS)


def test_a_name_that_stands_twice_but_is_no_class_of_the_data_set():
    assert read_order("crane,bird,cat,crane,dog", PETS) == (1, 2, 4)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "a.txt: is empty"),
        ("a.txt", "\n\n", "name 1 is empty"),
        ("a.txt", "bird\n\ncat\ndog", "name 2 is empty"),
        ("a.txt", b"\xff\xfe", "is not UTF-8 text"),
        ("a.json", "[1,", "is not JSON"),
        ("a.json", "", "is empty"),
        ("a.json", '{"0": "cat", "0": "dog"}', "has the key '0' twice"),
        ("a.json", '{"0": "cat", "00": "dog"}', "is neither a list of names"),
        ("a.json", '{"cat": 0}', "is neither a list of names"),
        ("a.json", '{"999999999": "cat"}', "indices below 100000"),
        ("a.json", '{"0": ["cat"]}', "is neither a list of names"),
        ("a.json", "[true, false]", "is neither a list of names"),
        ("a.json", "[]", "is neither a list of names"),
        ("a.json", "{}", "is neither a list of names"),
        ("a.json", "5", "is neither a list of names"),
        ("a.json", '["cat", " "]', "name 2 is empty"),
        ("a.csv", "bird,cat,dog", "a.csv: is not a .txt or .json file"),
    ],
)
def test_files_that_are_refused(file, name, content, message):
    with pytest.raises(InputError, match=message):
        read_order(file(name, content), PETS)
