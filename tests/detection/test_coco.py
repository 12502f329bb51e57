"""COCO's annotations: what is read, and how each wrong entry is said."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detection.coco import read_coco
from detection.masks import unpack
from tests.detection.sets import CLASSES, IDS, write_coco
from utils import UserError

pytest.importorskip("faster_coco_eval", reason="the packages of requirements-detection.txt are not installed")
BOX = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 10, 20]}


@pytest.fixture
def coco(tmp_path):
    return write_coco(tmp_path, "pictures", 4)


def changed(path, **entries):
    """The file with other entries; a function is called with the old one."""
    content = json.loads(path.read_text())
    for name, entry in entries.items():
        content[name] = entry(content[name]) if callable(entry) else entry
    path.write_text(json.dumps(content))
    return path


def read(path, **kwargs):
    return read_coco(path, path.with_suffix(""), **kwargs)


def test_a_good_file_is_read_whole(coco):
    content = json.loads(coco.read_text())
    found = read(coco, masks=True)
    assert (found.classes, found.category_ids, found.notes) == (list(CLASSES), list(IDS), [])
    assert [picture.id for picture in found.pictures] == [image["id"] for image in content["images"]]
    objects = [(each.id, found.category_ids[each.label], list(each.box), each.area)
               for picture in found.pictures for each in picture.instances]
    assert objects == [(each["id"], each["category_id"], each["bbox"], each["area"]) for each in content["annotations"]]
    picture = found.pictures[0]
    pixels = unpack(picture.instances[0].mask, picture.height, picture.width)
    assert pixels.sum() == picture.instances[0].area
    left, top, width, height = map(int, picture.instances[0].box)
    assert np.flatnonzero(pixels.any(0)).tolist() == list(range(left, left + width))
    assert np.flatnonzero(pixels.any(1)).tolist() == list(range(top, top + height))


@pytest.mark.parametrize(("entry", "line"), [
    ({"bbox": [1, 2, 0, 20]}, "annotation 99 (000.png): left out, with a box without area"),
    ({"bbox": [1, 2, 10, -20]}, "annotation 99 (000.png): left out, with a box without area"),
    ({"bbox": [500, 2, 10, 20]}, "annotation 99 (000.png): left out, with a box outside the picture"),
    ({"bbox": [-50, -50, 20, 20]}, "annotation 99 (000.png): left out, with a box outside the picture"),
    ({"bbox": [40, 2, 100, 20]}, "annotation 99 (000.png): cut, as the box reaches beyond the picture"),
    ({"bbox": [1, 2, 10]}, "annotation 99 (000.png): left out, with no box of four numbers"),
    ({"bbox": None}, "annotation 99 (000.png): left out, with no box of four numbers"),
    ({"category_id": 4}, "annotation 99 (000.png): left out, with the category 4, which is not listed"),
    ({"image_id": 5}, "annotation 99 (image 5): left out, of a picture that is not listed"),
    ({"segmentation": None}, "annotation 99 (000.png): left out, with no segmentation"),
    ({"segmentation": []}, "annotation 99 (000.png): left out, with no segmentation"),
    ({"segmentation": [[1, 2, 3, 4]]}, "annotation 99 (000.png): left out, with a polygon of less than three points"),
    ({"segmentation": {"size": [9, 9], "counts": [81]}},
     "annotation 99 (000.png): left out, with run lengths of another size than the picture"),
    ({"segmentation": {"size": [96, 64], "counts": [7]}},
     "annotation 99 (000.png): left out, with run lengths that do not fill the picture"),
    ({"segmentation": {"size": [96, 64], "counts": [6144]}}, "annotation 99 (000.png): left out, with a mask without "
                                                            "pixels"),
    ({"segmentation": "polygon"},
     "annotation 99 (000.png): left out, with a segmentation that is neither polygons nor run lengths"),
    ({"iscrowd": 1}, "1 crowd region: neither trained nor judged")])
def test_each_wrong_entry_is_said_with_file_and_id(coco, entry, line):
    whole = {**BOX, "id": 99, "segmentation": [[1, 2, 11, 2, 11, 22]], **entry}
    before = [picture.instances for picture in read(coco, masks=True).pictures]
    found = read(changed(coco, annotations=lambda old: [*old, whole]), masks=True)
    assert found.notes == [f"{coco}: {line}"]
    kept = [each for picture in found.pictures for each in picture.instances if each.id == 99]
    assert len(kept) == ("left out" not in line)
    after = [tuple(each for each in picture.instances if each.id != 99) for picture in found.pictures]
    assert after == before


def test_boxes_alone_need_no_masks(coco):
    found = read(changed(coco, annotations=[{**BOX, "id": 5, "segmentation": "none"}]))
    assert found.pictures[0].instances[0].mask is None
    assert found.pictures[0].instances[0].area == 200


def test_many_of_a_kind_are_counted(coco):
    bad = [{**BOX, "id": number, "bbox": [0, 0, 0, 0]} for number in range(30)]
    [line] = [line for line in read(changed(coco, annotations=bad)).notes if "area" in line]
    assert "annotation 9 (000.png) and 20 more: left out" in line
    assert "annotation 10 " not in line


def test_pictures_without_annotations_and_the_reverse_are_said(coco):
    found = read(changed(coco, annotations=[BOX], images=lambda old: old[:3]))
    assert [line.partition(": ")[2] for line in found.notes] == [
        "2 pictures without annotations: nothing is to be found there",
        f"1 picture in {coco.with_suffix('')} that it does not list: not used"]
    assert [len(picture.instances) for picture in found.pictures] == [1, 0, 0]
    assert found.pictures[0].instances[0].id == 0  # the annotation has no id


@pytest.mark.parametrize(("name", "line"), [
    ("gone.png", "no such file"), ("../pictures.json", "outside"), ("/etc/passwd", "outside"), ("C:\\x.png", "outside"),
    ("001.png", "listed twice")])
def test_pictures_that_cannot_be_used_are_said_with_their_id(coco, name, line):
    found = read(changed(coco, images=lambda old: [*old, {"id": 5, "file_name": name, "height": 9, "width": 9}]))
    assert len(found.pictures) == 4
    assert line in found.notes[0]
    assert f"image 5 ({name})" in found.notes[0]


def test_validation_takes_the_classes_of_training(coco):
    few = [{"id": 1, "name": "wedge"}, {"id": 2, "name": "box"}]
    found = read(changed(coco, categories=few, annotations=[{**BOX, "category_id": 2}]), classes=CLASSES)
    assert found.classes == list(CLASSES)
    assert found.category_ids[2] == 1
    assert found.pictures[0].instances[0].label == 0
    with pytest.raises(UserError, match="class wedge, which the training set lacks"):
        read(coco, classes=["box", "disc", "ring"])


@pytest.mark.parametrize(("entries", "message"), [
    ({"categories": []}, "without categories"), ({"categories": [{"id": 1, "name": "a"}] * 2}, "comes twice"),
    ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "comes twice"),
    ({"categories": [{"id": 1, "name": "a\nb"}]}, "control characters"),
    ({"images": lambda old: [old[0], old[0]]}, "picture's id comes twice"), ({"images": []}, "none is in"),
    ({"images": "x"}, "cannot be read"), ({"annotations": [{"image_id": "a", "category_id": 1}]}, r"\$.annotations"),
    ({"images": lambda old: [{**old[0], "width": 0}]}, r"\$.images"),
    ({"images": lambda old: [{**old[0], "id": 2**70}]}, r"\$.images")])
def test_a_file_that_contradicts_itself_is_refused(coco, entries, message):
    with pytest.raises(UserError, match=message):
        read(changed(coco, **entries))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"images": NaN}'])
def test_what_is_no_such_file_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=r"x.json, which cannot be read .* expected COCO's format"):
        read_coco(tmp_path / "x.json", tmp_path)


def test_a_byte_order_mark_is_no_hindrance(coco):
    coco.write_bytes(b"\xef\xbb\xbf" + coco.read_bytes())
    assert len(read(coco).pictures) == 4
