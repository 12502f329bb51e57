"""Pictures and targets as the network sees them: sizes, places, and every reason why a picture is of no use."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from data.image_list import Draw, collate
from data.images import decode_labels
from data.loaders import EvalBatches, Loading, make_loader
from detection.augmentation import PADDING, detection_augmentation, random_crop, segmentation_augmentation
from detection.coco import read_coco
from detection.datasets import DetectionImages, open_ade20k, read_names
from detection.scenes import IGNORED, Fit, Scenes
from tests.detection.sets import CLASSES, write_ade20k, write_coco
from utils import UserError

DOUBLE = Fit(shortest=128, longest=1000)


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    pytest.importorskip("faster_coco_eval", reason="the packages of requirements-detection.txt are not installed")
    return write_coco(tmp_path_factory.mktemp("coco"), "pictures", 6)


@pytest.fixture
def ade(tmp_path):
    return write_ade20k(tmp_path, train=4, val=2)


def detection(path, fit=DOUBLE, *, masks=True, **kwargs):
    root = path.with_suffix("")
    return DetectionImages(read_coco(path, root, masks=masks), root, fit, **kwargs)


@pytest.mark.parametrize(("fit", "size", "expected"), [
    (Fit(shortest=800, longest=1333), (480, 640), (800, 1067)),
    (Fit(shortest=800, longest=1333), (400, 1000), (533, 1333)),
    (Fit(shortest=512, longest=2048, multiple=32), (300, 400), (512, 704)),
    (Fit(shortest=512, longest=2048, multiple=32, canvas=512), (300, 400), (512, 704)),
    (Fit(shortest=128, longest=512, multiple=32, canvas=160), (160, 140), (146, 128)),
    (Fit(shortest=128, longest=512, multiple=32, canvas=160), (120, 160), (128, 192)),
    (Fit(shortest=8, longest=9), (1, 5000), (1, 9)),
    (Fit(shortest=100, longest=900, scales=(2.0, 2.0)), (100, 100), (200, 200))])
def test_sizes_in_the_network(fit, size, expected):
    assert fit.size(*size) == expected


def test_boxes_and_masks_scale_with_their_picture(coco):
    dataset = detection(coco)
    for index, picture in enumerate(dataset.pictures):
        scene = dataset[index].image
        assert scene.image.dtype == torch.uint8
        assert scene.image.shape[1:] == (2 * picture.height, 2 * picture.width)
        assert scene.size == (picture.height, picture.width)
        boxes, masks = scene.target["boxes"], scene.target["masks"]
        boxes_of_masks = torch.tensor([[float(f(mask.any(axis).nonzero())) + plus for f, plus in (
            (torch.min, 0), (torch.max, 1)) for axis in (0, 1)] for mask in masks])
        torch.testing.assert_close(boxes, boxes_of_masks)
        assert scene.target["labels"].tolist() == [each.label for each in picture.instances]


def test_mirroring_moves_picture_boxes_and_masks_together(coco):
    plain, mirrored = detection(coco), detection(coco, augmentation=detection_augmentation())
    flips = 0
    for seed in range(8):
        a, b = plain[0].image, mirrored[Draw(0, seed)].image
        flip = not torch.equal(a.image, b.image)
        flips += flip
        assert torch.equal(a.image.flip(-1) if flip else a.image, b.image)
        assert torch.equal(a.target["masks"].flip(-1) if flip else a.target["masks"], b.target["masks"])
        boxes = a.target["boxes"].clone()
        if flip:
            boxes[:, [2, 0]] = a.image.shape[2] - boxes[:, [0, 2]]
        torch.testing.assert_close(b.target["boxes"], boxes)
        assert {type(value) for value in (b.image, *b.target.values())} == {torch.Tensor}
    assert 0 < flips < 8


def test_crowds_and_slivers_are_no_targets_and_boxes_are_cut(tmp_path):
    path = write_coco(tmp_path, "pictures", 1)
    content = json.loads(path.read_text())
    box = {"image_id": 1, "category_id": 3}
    content["annotations"] = [{**box, "bbox": [-5, 90, 20, 50]}, {**box, "bbox": [0, 0, 9, 9], "iscrowd": 1},
                              {**box, "bbox": [5, 5, 1e-4, 9]}]
    path.write_text(json.dumps(content))
    target = detection(path, masks=False)[0].image.target
    assert target["boxes"].tolist() == [[0, 180, 30, 192]]
    assert "masks" not in target


def test_a_picture_of_another_size_than_its_annotations_is_a_failure(coco, tmp_path):
    path = write_coco(tmp_path, "pictures", 3)
    Image.new("RGB", (10, 20)).save(tmp_path / "pictures" / "001.png")
    (tmp_path / "pictures" / "002.png").write_bytes(b"no picture")
    dataset = detection(path)
    batch = collate([dataset[index] for index in range(3)], dataset.stack)
    assert batch.indices.tolist() == batch.targets.tolist() == [0]
    assert batch.failures == [(1, "10x20 px, but 96x64 in its annotations (image 11)"),
                              (2, "no picture in a known format")]


def test_a_picture_without_objects_has_empty_targets(tmp_path):
    path = write_coco(tmp_path, "pictures", 1)
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    target = detection(path)[0].image.target
    assert {name: tuple(value.shape) for name, value in target.items()} == {
        "boxes": (0, 4), "labels": (0,), "masks": (0, 192, 128)}
    assert detection(path, augmentation=detection_augmentation())[Draw(0, 1)].image.target["boxes"].shape == (0, 4)


def test_counts_and_leaving_out(coco):
    dataset = detection(coco)
    objects = [each for picture in dataset.pictures for each in picture.instances]
    assert dataset.counts().tolist() == [sum(each.label == label for each in objects) for label in range(4)]
    names, gone = list(dataset.names), dataset.path(2)
    dataset.leave_out([gone])
    assert dataset.names == [name for name in names if name != gone.name]
    assert [picture.name for picture in dataset.pictures] == dataset.names


def test_batches_of_all_sizes_come_whole_through_processes(coco):
    dataset = detection(coco)
    loading = Loading(batch_size=4, num_workers=1)
    batches = list(make_loader(dataset, EvalBatches(len(dataset), loading), loading))
    assert [type(batch.images) for batch in batches] == [Scenes, Scenes]
    alone = [dataset[index].image for index in range(6)]
    for scene, expected in zip([scene for batch in batches for scene in batch.images], alone, strict=True):
        assert torch.equal(scene.image, expected.image)
    rows = batches[0].images[torch.tensor([3, 0, 3])]
    assert [scene.size for scene in rows] == [alone[3].size, alone[0].size, alone[3].size]
    assert torch.equal(rows.to(torch.device("cpu"), non_blocking=True)[1].image, alone[0].image)


# ---- label maps ------------------------------------------------------------------------------------------------------


def test_label_maps_follow_their_pictures(ade):
    dataset, lines = open_ade20k(ade, "training", DOUBLE)
    assert (dataset.classes, lines, len(dataset)) == (list(CLASSES), [], 4)
    for index in range(4):
        scene, numbers = dataset[index].image, np.asarray(Image.open(dataset.maps[index])).astype(int)
        assert scene.image.shape[1:] == scene.target["pixels"].shape
        expected = np.where(numbers == 0, IGNORED, numbers - 1)
        assert (scene.target["pixels"][::2, ::2].numpy() == expected).all()
    kept = open_ade20k(ade, "training", DOUBLE, shift=False, classes=["none", *CLASSES])[0]
    assert (kept[0].image.target["pixels"][::2, ::2].numpy() == np.asarray(Image.open(kept.maps[0]))).all()


def test_a_random_size_is_another_one_each_time(ade):
    dataset = open_ade20k(ade, "training", Fit(shortest=64, longest=200, scales=(0.5, 2.0)))[0]
    sizes = {tuple(dataset[Draw(0, seed)].image.image.shape) for seed in range(5)}
    assert len(sizes) == 5
    assert dataset[Draw(0, 3)].image.image.shape == dataset[Draw(0, 3)].image.image.shape


@pytest.mark.parametrize(("write", "reason"), [
    (lambda path: Image.new("L", (5, 6)).save(path), "64x96 px, but label map 000.png has 5x6"),
    (lambda path: Image.new("L", (64, 96), 9).save(path), "label map 000.png with the unknown 9 (of 1 to 4)"),
    (lambda path: Image.new("RGB", (64, 96)).save(path), "label map 000.png: no label map, but a picture of mode RGB"),
    (lambda path: path.write_bytes(b"x"), "label map 000.png: no PNG"),
    (lambda path: path.write_bytes(path.read_bytes()[:60]), "label map 000.png: cannot be read")])
def test_a_label_map_of_no_use_is_a_failure_with_its_reason(ade, write, reason):
    dataset = open_ade20k(ade, "training", DOUBLE)[0]
    write(dataset.maps[0])
    assert dataset[0].image is None
    assert dataset[0].reason.startswith(reason)
    assert dataset[1].image is not None


def test_pictures_and_label_maps_without_the_other_are_said(ade):
    (ade / "annotations" / "training" / "002.png").rename(ade / "annotations" / "training" / "stray.png")
    dataset, lines = open_ade20k(ade, "training", DOUBLE)
    assert dataset.names == ["000.jpg", "001.jpg", "003.jpg"]
    assert [line.partition(" ")[0] for line in lines] == ["1", "1"]
    assert lines[0].endswith("not used: 002.jpg")
    assert lines[1].endswith("without a picture: not used: stray.png")
    dataset.leave_out([dataset.path(0)])
    assert [path.name for path in dataset.maps] == ["001.png", "003.png"]


@pytest.mark.parametrize(("mode", "bits"), [("1", None), ("L", 2), ("L", 4), ("L", None), ("P", None), ("I;16", None)])
def test_label_maps_of_any_depth(tmp_path, mode, bits):
    numbers = np.array([[0, 1], [1, 0]] if mode == "1" else [[0, 3], [2, 1]], np.uint8)
    if mode == "P":
        image = Image.fromarray(numbers).convert("P")
        image.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200, 7, 7, 7])
        image.putdata(numbers.flatten().tolist())
    else:
        image = Image.fromarray(numbers.astype(np.uint16) if mode == "I;16" else numbers)
        image = image.convert("1") if mode == "1" else image
    if bits:
        _write_grey_png(tmp_path / "x.png", numbers, bits)
    elif mode == "1":
        Image.fromarray(numbers.astype(bool)).save(tmp_path / "x.png")
    else:
        image.save(tmp_path / "x.png")
    assert decode_labels(tmp_path / "x.png").tolist() == numbers.tolist()


def _write_grey_png(path, numbers, bits):
    """A grey PNG of two or four bits, which Pillow reads but does not write."""
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = numbers.shape
    rows = b"".join(b"\0" + int("".join(f"{n:0{bits}b}" for n in row).ljust(8, "0"), 2).to_bytes(1, "big")
                    for row in numbers)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.mark.parametrize(("name", "text", "expected"), [
    ("classes.txt", "sky\n\n Baum \n", ["sky", "Baum"]),
    ("objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tName\n1\t0.1\t2\t3\twall, fence\n2\t0.1\t2\t3\tsky\n",
     ["wall, fence", "sky"])])
def test_names_of_classes(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    assert read_names(tmp_path) == expected


@pytest.mark.parametrize(("name", "text", "message"), [
    ("classes.txt", "", "0 classes"), ("classes.txt", "a\na\n", "twice"), ("classes.txt", "a\x01\n", "control"),
    ("classes.txt", "\n".join(map(str, range(300))), "300 classes"), ("objectInfo150.txt", "Idx\n1\n", "column Name"),
    ("other.txt", "a\n", "classes.txt, which cannot be read")])
def test_names_that_are_none_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_names(tmp_path)


def test_other_layouts_are_refused(tmp_path, ade):
    with pytest.raises(UserError, match="annotations"):
        open_ade20k(tmp_path / "nothing", "training", DOUBLE)
    for path in (ade / "annotations" / "training").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="no picture in"):
        open_ade20k(ade, "training", DOUBLE)


# ---- augmentation ----------------------------------------------------------------------------------------------------


def test_a_crop_shows_the_same_place_of_picture_and_map_and_pads_with_nothing():
    pixels = torch.arange(12, dtype=torch.uint8).reshape(3, 4)
    image = pixels[None].repeat(3, 1, 1)
    torch.manual_seed(0)
    part, target = random_crop(image, pixels, 2, 0.75)
    assert part.shape == (3, 2, 2)
    assert torch.equal(part[0], target["pixels"])
    part, target = random_crop(image, pixels, 6, 0.75)
    assert torch.equal(target["pixels"][:3, :4], pixels)
    assert set(target["pixels"][3:].flatten().tolist()) == {IGNORED}
    assert part[:, 5, 5].tolist() == [int(level) for level in PADDING]


def test_crops_of_one_class_are_avoided():
    pixels = torch.zeros(40, 200, dtype=torch.uint8)
    pixels[:, 90:], pixels[:, 130:] = 1, 0
    torch.manual_seed(0)
    shares = [float((random_crop(pixels[None].repeat(3, 1, 1), pixels, 30, 0.75)[1]["pixels"] == 0).float().mean())
              for _ in range(50)]
    assert sum(0.25 <= share <= 0.75 for share in shares) > 40
    assert sum(0.25 <= share <= 0.75 for share in (
        float((random_crop(pixels[None].repeat(3, 1, 1), pixels, 30, 1.0)[1]["pixels"] == 0).float().mean())
        for _ in range(50))) < 30


def test_colours_change_and_labels_do_not(ade):
    dataset = open_ade20k(ade, "training", DOUBLE)[0]
    run = segmentation_augmentation(128)
    scene = dataset[0].image
    torch.manual_seed(1)
    image, target = run(scene.image, scene.target)
    assert image.shape == (3, 128, 128)
    assert image.dtype == torch.uint8
    assert set(target["pixels"].unique().tolist()) <= {*range(len(CLASSES)), IGNORED}
