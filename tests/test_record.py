"""A model's record: the same on disk as ever, of any age, and never of a kind that can't be shown.

`models_0_1_0/` was written by wordsight 0.1.0, when the record was a dict without a schema:

- `probe/` is a model trained on twelve discs and twelve squares. What it learned is kept bit by bit
  in `learned.safetensors`; the 16 MB that are the backbone's own are added by `model_of_0_1_0`, and
  `answers.json` has the SHA-256 of both files as 0.1.0 wrote them.
- `answers.json` also has what 0.1.0 answered for six other discs and six other squares.
- `records/` has the wordsight.json of other recipes.
- `embeddings.sqlite` is its cache after one image, `disc.jpg`.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import wordsight
from conftest import contents
from wordsight.backbones import precision
from wordsight.backbones.embedder import Embedder
from wordsight.backbones.registry import load_backbone
from wordsight.classification import model_folder
from wordsight.classification.model_card import model_card
from wordsight.classification.model_folder import read_model
from wordsight.classification.model_sections import about_model
from wordsight.classification.record import DEFAULT_THRESHOLD, ModelRecord
from wordsight.cli.printing import show
from wordsight.errors import InvalidArgument, InvalidModel
from wordsight.heads.guarantee import keep_promise

OLD = Path(__file__).with_name("models_0_1_0")
ANSWERS = json.loads((OLD / "answers.json").read_text())
RECORDS = [OLD / "probe" / "wordsight.json", *sorted((OLD / "records").glob("*.json"))]
STRANGE = (None, True, -1, 7.5, float("nan"), "x", [], ["x"], [[1]], {}, {"x": []}, {"x": {"y": 1}})


@pytest.fixture(scope="module")
def model_of_0_1_0(tmp_path_factory):
    """The folder of a model that 0.1.0 trained, byte for byte."""
    folder = tmp_path_factory.mktemp("old") / "model"
    shutil.copytree(OLD / "probe", folder)
    learned = load_file(folder / "learned.safetensors")
    (folder / "learned.safetensors").unlink()
    backbone = load_backbone("tf_efficientnet_lite0")
    head = {
        f"{backbone.head_name}.weight": learned["head.weight"],
        f"{backbone.head_name}.bias": learned["head.bias"],
    }
    save_file({**backbone.weights(), **head}, folder / "model.safetensors")
    weight, bias = backbone.concept_head()
    strangers = {
        "references": learned["references"],
        "concepts": learned["concepts"],
        "concept_weight": weight.astype(np.float16),
        "concept_bias": bias,
    }
    save_file(strangers, folder / "strangers.safetensors")
    for name, digest in ANSWERS["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    return folder


def stored(path):
    """Return the record that a wordsight.json holds, as a dict."""
    data = json.loads(path.read_text())
    return {**data["info"], "threshold": data["threshold"]}


def test_a_model_of_0_1_0_answers_as_it_did(model_of_0_1_0, other_shapes):
    model = wordsight.load(model_of_0_1_0)
    assert model.record.path == model_of_0_1_0 and model.record.recipe == "probe"
    assert model.record.images == {"disc": 12, "square": 12} and model.record.seed == 0
    found = list(model.predict(other_shapes))
    embedder = Embedder(model.backbone)
    for prediction, before in zip(found, ANSWERS["predictions"], strict=True):
        assert prediction.file_name == before["file_name"]
        assert prediction.label == before["label"]
        assert prediction.probability == pytest.approx(before["probability"], abs=1e-3)
        sha = hashlib.sha256((other_shapes / before["file_name"]).read_bytes()).digest()
        embedding = embedder.cache.get(sha, embedder.key)
        assert model.familiarity(embedding[None])[0] == pytest.approx(
            before["familiarity"], abs=0.02
        )
    embedder.cache.close()


def test_a_model_of_0_1_0_is_written_as_it_was(model_of_0_1_0, tmp_path):
    again = wordsight.load(model_of_0_1_0).save(tmp_path / "m")
    before = json.loads((model_of_0_1_0 / "wordsight.json").read_text())
    after = json.loads((again / "wordsight.json").read_text())
    assert after == {**before, "wordsight_version": wordsight.__version__}
    for name in ("README.md", "config.json", "history.csv", "held_out.csv"):
        text = (
            (again / name)
            .read_text("utf-8-sig")
            .replace(f"wordsight {wordsight.__version__}", "wordsight 0.1.0")
        )
        assert text == (model_of_0_1_0 / name).read_text(), name


def test_embeddings_that_0_1_0_cached_without_a_hash_are_computed_anew(
    model_of_0_1_0, fresh_home, monkeypatch
):
    assert load_backbone("tf_efficientnet_lite0").key == ANSWERS["backbone_key"]
    shutil.copy(OLD / "embeddings.sqlite", fresh_home / "cache" / "embeddings.sqlite")

    encoded = []

    def encode(self, photo, feature_map=False):
        encoded.append(photo)
        return before(self, photo, feature_map)

    before = Embedder.encode
    model = wordsight.load(model_of_0_1_0)
    monkeypatch.setattr(Embedder, "encode", encode)
    for _ in range(2):
        (prediction,) = model.predict(OLD / "disc.jpg")
        assert prediction.error is None and prediction.top_label == "disc"
    assert len(encoded) == 1


def test_a_model_of_0_1_0_runs_in_f32_as_it_did(model_of_0_1_0, monkeypatch):
    monkeypatch.setattr(precision, "measured", lambda backbone: precision.Choice("int8", 2.0, 1.0))
    assert wordsight.load(model_of_0_1_0).embedder.dtype == "f32"


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_records_of_every_recipe_are_kept_as_they_were(path):
    before = stored(path)
    record = ModelRecord.from_dict(before)
    kept = json.loads(json.dumps(record.to_dict()))
    if before.get("promise") is not None:  # its sentence is worded as this version words it
        kept["promise"] |= {"sentence": before["promise"]["sentence"]}
    assert kept == before and not record.other
    assert ModelRecord.from_dict(record.to_dict()) == record


def test_a_record_holds_typed_values():
    promise = ModelRecord.from_dict(stored(OLD / "records" / "promise_not.json")).promise
    assert promise.threshold is None and promise.held_out == 24
    assert "so no label is given" in promise.sentence()
    boxes = ModelRecord.from_dict(stored(OLD / "records" / "boxes.json")).boxes
    assert boxes.images == 12 and len(boxes.median_box) == 4
    assert boxes.skipped == [("line 14", "there is no picture 'gone0' inside 'boxed'")]
    loss = ModelRecord.from_dict(stored(OLD / "records" / "scratch.json")).validation_loss
    assert loss.after < loss.before


def test_missing_keys_have_defaults_and_unknown_ones_are_kept():
    assert ModelRecord.from_dict({}) == ModelRecord()
    assert ModelRecord().to_dict() == {"threshold": DEFAULT_THRESHOLD}
    later = {"recipe": "words", "threshold": None, "mood": {"of": ["a later version"]}}
    record = ModelRecord.from_dict(later)
    assert record.other == {"mood": {"of": ["a later version"]}} and record.to_dict() == later
    assert ModelRecord.from_dict({"other": 1}).to_dict() == {"threshold": 0.99, "other": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pictures": [12, 12]}, "'pictures' in its wordsight.json is of a wrong kind"),
        ({"pictures": {"disc": "many"}}, "'pictures' in its wordsight.json is of a wrong kind"),
        ({"metrics": {"accuracy": "good"}}, "'metrics' in its wordsight.json is of a wrong kind"),
        ({"metrics": {"accuracy": 10**400}}, "too large"),
        ({"left_out": [["disc/001.jpg"]]}, "'left_out' in its wordsight.json is of a wrong kind"),
        ({"licences": ["cc0"]}, "'licences' in its wordsight.json is of a wrong kind"),
        ({"gathered": {"classes": {"disc": {}}}}, "'gathered' in its wordsight.json is of a wro"),
        ({"promise": {"precision": 0.9}}, "it lacks 'confidence'"),
        ({"boxes": {"pictures": 3}}, "it lacks 'held_out'"),
        ({"validation_loss": [1.0, 0.5]}, "'validation_loss' in its wordsight.json is of a wrong"),
        ({"mask_threshold": 2.0}, "'mask_threshold' in its wordsight.json is out of range"),
        ({"judged_on": None}, "'judged_on' in its wordsight.json is of a wrong kind"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_record_of_a_wrong_kind_is_one_sentence(model_of_0_1_0, tmp_path, change, said):
    folder = shutil.copytree(model_of_0_1_0, tmp_path / "m", copy_function=os.link)
    data = json.loads((folder / "wordsight.json").read_text())
    data["info"] |= change
    (folder / "wordsight.json").unlink()
    (folder / "wordsight.json").write_text(json.dumps(data))
    with pytest.raises(InvalidModel, match=r"can't be loaded: .*Train it again") as caught:
        wordsight.load(folder)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text", ["stage,epoch,loss\n1,one,0.5\n", "stage,epoch,loss\n1,1,0.5\n1,,0.4\n"]
)
def test_a_history_that_cannot_be_drawn_is_refused(model_of_0_1_0, tmp_path, text):
    folder = shutil.copytree(model_of_0_1_0, tmp_path / "m", copy_function=os.link)
    (folder / "history.csv").unlink()
    (folder / "history.csv").write_text(text)
    with pytest.raises(InvalidModel, match=r"history\.csv has"):
        wordsight.load(folder)


def places(value, way=()):
    """Yield the way to every value inside a JSON value, as keys and indices."""
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in inside:
        yield (*way, key)
        yield from places(part, (*way, key))


def with_change(data, way, value):
    """Return a copy in which one value is another; "gone" takes it away."""
    changed = copy.deepcopy(data)
    holder = changed
    for key in way[:-1]:
        holder = holder[key]
    if value == "gone":
        del holder[way[-1]]
    else:
        holder[way[-1]] = value
    return changed


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_loads_can_be_shown(model_of_0_1_0, path, capsys):
    model = wordsight.load(model_of_0_1_0)
    before = stored(path)
    shown = refused = 0
    for way in places(before):
        for value in (*STRANGE, "gone"):
            if way == ("threshold",):  # read_model holds that to 0–1
                continue
            try:
                record = ModelRecord.from_dict(with_change(before, way, value))
            except (ValueError, KeyError):
                refused += 1
                continue
            changed = replace(model, record=replace(record, path=model.record.path))
            assert model_card(changed) and about_model(record, model.history, model.class_names)
            assert changed._repr_html_() and json.dumps(record.to_dict())
            if record.boxes is not None and "boxes" in way:
                changed.plots()
            for as_json in (False, True):
                assert show(changed, as_json) in (0, 1)
            shown += 1
    capsys.readouterr()
    assert shown >= 20 and refused > 60


@pytest.fixture
def changing_model(model_of_0_1_0, tmp_path, monkeypatch):
    """A model folder whose text files may be changed, and a function that loads it without reading
    the same 18 MB of weights each time.
    """
    folder = shutil.copytree(model_of_0_1_0, tmp_path / "m", copy_function=os.link)
    for name in ("wordsight.json", "history.csv", "held_out.csv"):
        (folder / name).unlink()
        shutil.copy(model_of_0_1_0 / name, folder / name)
    arrays = {
        path.name: {name: load_file(path)[name] for name in load_file(path)}
        for path in folder.glob("*.safetensors")
    }
    backbone = wordsight.load(folder).backbone
    monkeypatch.setattr("safetensors.numpy.load_file", lambda path: dict(arrays[path.name]))
    monkeypatch.setattr(model_folder, "fingerprint_weights", lambda *_: backbone.fingerprint)
    monkeypatch.setattr(model_folder, "find_prepared", lambda *_: backbone)
    return folder


def loads(folder) -> bool:
    """Whether a folder loads; if so, everything that shows it works, and it decides."""
    try:
        model = wordsight.load(folder)
    except InvalidModel as error:
        assert "can't be loaded: " in str(error) or "format" in str(error)
        return False
    assert model_card(model) and about_model(model.record, model.history, model.class_names)
    assert model._repr_html_() and show(model, False) in (0, 1) and show(model, True) in (0, 1)
    embedding = np.ones(model.backbone.num_features, np.float32)
    with np.errstate(all="raise", under="ignore"):
        assert json.dumps(model.decide("a.jpg", embedding, 0.5).to_dict(), allow_nan=False)
    keep_promise(model.held_out, 0.9)
    return True


def test_any_value_of_wordsight_json_may_be_of_another_kind(changing_model, capsys):
    before = json.loads((changing_model / "wordsight.json").read_text())
    loaded = []
    for way in places(before):
        if way[0] == "info" and len(way) > 1:  # test_what_loads_can_be_shown has these
            continue
        for value in (*STRANGE, False, "10", "\ud800", 10**400, 1e300, "gone"):
            changed = json.dumps(with_change(before, way, value))
            (changing_model / "wordsight.json").write_text(changed)
            if loads(changing_model):
                loaded.append((way, value))
    capsys.readouterr()
    kinds = {way[0] for way, _ in loaded}
    assert {"wordsight_version", "threshold"} <= kinds and 20 < len(loaded) < 200


CELLS = ("", "nan", "inf", "x", "-1", "7", "1e400", "9" * 400, "\0")
EPOCHS = "stage,epoch,loss,accuracy,val_loss,val_accuracy,lr,seconds\n1,0,,,0.5,0.9,,\n"
EPOCHS += "1,1,0.4,0.9,0.3,0.8,0.001,2.0\n"


@pytest.mark.parametrize("name", ["history.csv", "held_out.csv"])
def test_any_cell_of_a_model_may_be_of_another_kind(changing_model, capsys, name):
    text = EPOCHS if name == "history.csv" else (changing_model / name).read_text()
    rows = [line.split(",") for line in text.splitlines()[:3]]
    loaded = refused = 0
    for row, column in itertools.product(range(len(rows)), range(len(rows[0]))):
        for cell in CELLS:
            changed = copy.deepcopy(rows)
            changed[row][column] = cell
            (changing_model / name).write_text("\n".join(map(",".join, changed)))
            fine = loads(changing_model)
            loaded, refused = loaded + fine, refused + (not fine)
    for data in (b"", b"\n\n", b"\xff\xfe\0", b"\0" * 50, b"a" * 200_000):
        (changing_model / name).write_bytes(data)
        loads(changing_model)
    capsys.readouterr()
    assert loaded > 10 and refused > 20


@pytest.mark.parametrize("name", ["model", "strangers"])
def test_weights_that_are_no_numbers_are_refused(model_of_0_1_0, tmp_path, name):
    folder = shutil.copytree(model_of_0_1_0, tmp_path / "m", copy_function=os.link)
    path = folder / f"{name}.safetensors"
    arrays = load_file(path)
    chosen = arrays["references" if name == "strangers" else "classifier.bias"].copy()
    chosen.flat[0] = np.nan
    path.unlink()
    save_file({**arrays, "references" if name == "strangers" else "classifier.bias": chosen}, path)
    with pytest.raises(InvalidModel, match="what is no number"):
        wordsight.load(folder)


def test_a_threshold_of_a_wrong_kind_is_refused(model_of_0_1_0, tmp_path):
    folder = shutil.copytree(model_of_0_1_0, tmp_path / "m", copy_function=os.link)
    data = json.loads((folder / "wordsight.json").read_text())
    for value in ("high", [], 1.5, float("nan")):
        (folder / "wordsight.json").unlink()
        (folder / "wordsight.json").write_text(json.dumps({**data, "threshold": value}))
        with pytest.raises(InvalidModel, match="can't be loaded"):
            read_model(folder)


def test_a_model_of_0_1_0_is_replaced_unless_somebody_worked_on_it(model_of_0_1_0, tmp_path):
    folder = shutil.copytree(model_of_0_1_0, tmp_path / "m")
    model = wordsight.load(folder)
    for name, mine in (
        ("README.md", (folder / "README.md").read_bytes() + b"\nUse it for cats.\n"),
        ("history.csv", b"stage,epoch\n"),
        ("plots/figure.png", b"\x89PNG\r\n\x1a\n"),
        ("plots/loss.png", b"no picture"),
    ):
        before = contents(folder)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(mine)
        with pytest.raises(InvalidArgument, match="files that were changed"):
            model.save(folder)
        assert (folder / name).read_bytes() == mine
        shutil.rmtree(folder)
        for kept, data in before.items():
            (folder / kept).parent.mkdir(parents=True, exist_ok=True)
            (folder / kept).write_bytes(data)
    model.save(folder)
    assert "made by wordsight 0.1.0" not in (folder / "README.md").read_text()
