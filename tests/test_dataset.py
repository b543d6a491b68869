from __future__ import annotations

import os

import pytest

from conftest import draw_shape, write_shapes
from wordsight.datasets.files import find_images
from wordsight.datasets.labelled import read_labelled, select_classes
from wordsight.errors import InvalidArgument, NotFound


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    image = draw_shape("disc", 1)[0]
    for name in (
        "b.jpg",
        "a b.png",
        "sub/-dash.jpg",
        "sub/new\nline.jpg",
        "sub/emoji 🐱.jpg",
        ".hidden.jpg",
    ):
        image.save(folder / name)
    image.save(folder / "photo.php", "JPEG")
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    return folder


def test_find_images_finds_all_in_order_and_counts_the_rest(photos):
    found = find_images([photos])
    assert [p.name for p in found.images] == [
        "a b.png",
        "b.jpg",
        "broken.jpg",
        "photo.php",
        "sub/-dash.jpg",
        "sub/emoji 🐱.jpg",
        "sub/new\nline.jpg",
    ]
    assert found.skipped == ["notes.txt"]


def test_find_images_reads_names_that_are_no_text(tmp_path):
    draw_shape("disc", 1)[0].save(tmp_path / "x.jpg")
    os.rename(tmp_path / "x.jpg", os.fsencode(tmp_path) + b"/caf\xe9.jpg")
    (image,) = find_images([tmp_path]).images
    assert image.path.is_file() and os.fsencode(image.name) == b"caf\xe9.jpg"


def test_find_images_takes_files_and_globs(photos):
    assert [p.name for p in find_images([photos / "b.jpg"]).images] == ["b.jpg"]
    assert [p.name for p in find_images([f"{photos}/*.jpg"]).images] == ["b.jpg", "broken.jpg"]


def test_find_images_makes_names_of_several_folders_unique(photos, tmp_path):
    other = tmp_path / "deep" / "photos"
    other.mkdir(parents=True)
    draw_shape("disc", 2)[0].save(other / "b.jpg")
    names = [p.name for p in find_images([photos, other]).images]
    assert len(names) == len(set(names)) == 8


def test_find_images_survives_links_in_a_circle(photos):
    (photos / "sub" / "loop").symlink_to(photos)
    assert len(find_images([photos]).images) == 7


def test_find_images_passes_over_the_results(photos):
    assert not any(
        p.name.startswith("sub/") for p in find_images([photos], exclude=photos / "sub").images
    )


@pytest.mark.parametrize("missing", ["no/such/folder", "no/such/*.jpg"])
def test_find_images_names_what_is_missing(missing):
    with pytest.raises(NotFound, match="no/such"):
        find_images([missing])


def test_find_images_refuses_an_empty_folder(tmp_path):
    with pytest.raises(InvalidArgument, match=r"No pictures in .*no file at all"):
        find_images([tmp_path])


def test_read_labelled_reads_class_folders(shapes):
    labelled = read_labelled(shapes)
    assert labelled.class_names == ["disc", "square"] and len(labelled.images) == 24
    assert labelled.images[0].name == "disc/000.jpg" and labelled.images[0].label == "disc"


def test_read_labelled_reads_csv(shapes, tmp_path):
    table = shapes / "labels.csv"
    table.write_text("file_name,label\ndisc/000.jpg,round\nsquare/000.jpg,square\ndisc/001.jpg,\n")
    labelled = read_labelled(table)
    table.unlink()
    assert [(p.name, p.label) for p in labelled.images] == [
        ("disc/000.jpg", "round"),
        ("square/000.jpg", "square"),
    ]


def test_read_labelled_refuses_csv_that_climbs_out(tmp_path):
    (tmp_path / "x.csv").write_text("file_name,label\n../../etc/passwd,cat\n")
    with pytest.raises(InvalidArgument, match="outside its folder"):
        read_labelled(tmp_path / "x.csv")


def test_read_labelled_refuses_one_class(shapes, tmp_path):
    (tmp_path / "disc").mkdir()
    draw_shape("disc", 1)[0].save(tmp_path / "disc" / "a.jpg")
    with pytest.raises(InvalidArgument, match=r"at least 2 classes.*only 'disc'"):
        read_labelled(tmp_path)


def test_read_labelled_refuses_names_that_differ_by_case(tmp_path):
    for name in ("Cat", "cat", "dog"):
        (tmp_path / name).mkdir()
        draw_shape("disc", 1)[0].save(tmp_path / name / "a.jpg")
    with pytest.raises(InvalidArgument, match="'Cat' and 'cat'"):
        read_labelled(tmp_path)


def test_find_images_survives_a_link_to_itself(photos):
    (photos / "loop").symlink_to("loop")
    assert len(find_images([photos]).images) == 7


def test_find_images_skips_other_files_of_a_glob(photos):
    found = find_images([f"{photos}/*"], exclude=photos / "sub")
    assert found.skipped == ["notes.txt"] and [p.name for p in found.images] == [
        "a b.png",
        "b.jpg",
        "broken.jpg",
        "photo.php",
    ]


def test_read_labelled_says_which_class_folder_is_empty(shapes, tmp_path, caplog):
    import shutil

    folder = shutil.copytree(shapes, tmp_path / "data")
    (folder / "bird").mkdir()
    assert read_labelled(folder).class_names == ["disc", "square"]
    assert "without a picture are left out: bird" in caplog.text


@pytest.mark.parametrize(
    "content",
    [b"file_name,label\na\0b.jpg,cat\n", b"file_name,label\n" + b"x" * 200_000 + b",cat\n"],
)
def test_read_labelled_refuses_broken_csv(tmp_path, content):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(InvalidArgument):
        read_labelled(tmp_path / "x.csv")


def test_select_classes_keeps_what_is_marked_test_apart(tmp_path):
    write_shapes(tmp_path, 2)
    lines = ["file_name,label,split"] + [
        f"{k}/{i:03d}.jpg,{k},{'test' if i else 'train'}"
        for k in ("disc", "square")
        for i in range(2)
    ]
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    labelled = read_labelled(tmp_path)
    for words, names in (
        (["Square", "disc"], {"Square", "disc"}),
        (["disc"], {"disc", "not_disc"}),
    ):
        chosen = select_classes(labelled, words)
        assert {p.label for p in chosen.images} == names == set(chosen.class_names)
        assert [p.split for p in chosen.images] == [p.split for p in labelled.images]
    with pytest.raises(InvalidArgument, match="no class 'ring'; they have: disc, square"):
        select_classes(labelled, ["ring"])
