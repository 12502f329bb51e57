"""serve_artist.py over HTTP, in a process of its own: the same answers as inference, and refusals in words."""

from __future__ import annotations

import base64
import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serve_artist import PACKAGES, main
from serving.options import KEY_VARIABLE
from tests import forked
from tests.data.test_images import png_that_claims

for package in PACKAGES:
    pytest.importorskip(package, reason="the packages of requirements-serve.txt are not installed")
Ask = Callable[..., tuple[int, Any]]
KEY = "a-key-of-some-length"


@contextmanager
def served(folder: Path, *flags: object, env: dict[str, str] | None = None) -> Iterator[tuple[forked.Script, int]]:
    """The running service, and its port; it is stopped at the end."""
    script = forked.Script("serve_artist.py", *flags, "--port", 0, "--device", "cpu", cwd=folder, env=env)
    try:
        line = next((line for line in script.stdout if line.startswith("listening on ")), "")
        assert line, "the service did not start"
        yield script, int(line.partition(";")[0].rpartition(":")[2])
    finally:
        if script.poll() is None:
            script.send_signal(signal.SIGTERM)
            script.communicate(60)


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    is_json = response.getheader("content-type") == "application/json"
    return response.status, json.loads(content) if is_json else content


def form(*pictures: tuple[str, bytes]) -> dict[str, Any]:
    """The body of a form, and its type."""
    mark = uuid.uuid4().hex
    parts = [f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + content +
             b"\r\n" for name, content in pictures]
    return {"body": b"".join(parts) + f"--{mark}--\r\n".encode(),
            "content_type": f"multipart/form-data; boundary={mark}"}


@pytest.fixture(scope="module")
def gallery(trained: Path, data_set: Path, run_script: Callable[..., Any],
            tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "gallery"
    done = run_script("tools/build_gallery.py", "--images-dir", data_set / "train", "--checkpoint", trained,
                      "--gallery", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def service(trained: Path, gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a service that may write to its gallery."""
    with served(tmp_path_factory.mktemp("served"), "--checkpoint", trained, "--gallery", gallery, "--writable",
                "--max-upload", 1, "--max-pictures", 20) as (_, port):
        yield port


@pytest.fixture(scope="module")
def pictures(data_set: Path) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted((data_set / "val").glob("*/*"))]


def numbers(value: Any) -> Iterator[Any]:
    """The leaves of plain Python, in order."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers(each)
    else:
        yield value


@pytest.mark.parametrize(("mode", "path"), [("classify", "classify"), ("cluster", "features"), ("search", "search")])
def test_answers_are_those_of_inference(service: int, trained: Path, gallery: Path, data_set: Path, tmp_path: Path,
                                        run_script: Callable[..., Any], mode: str, path: str,
                                        pictures: list[tuple[str, bytes]]) -> None:
    done = run_script("inference_artist.py", "--mode", mode, "--checkpoint", trained, "--input", data_set / "val",
                      "--output", tmp_path / "out", *(["--gallery", gallery] if mode == "search" else []))
    assert done.returncode == 0, done.stderr
    expected = json.loads((tmp_path / "out" / "batch_results.json").read_text(encoding="utf-8"))
    with ThreadPoolExecutor(4) as pool:
        answers = [*pool.map(lambda picture: ask(service, "POST", f"/api/{path}", **form(picture)), pictures)]
    assert [status for status, _ in answers] == [200] * len(pictures)
    records = [answer["results"][0] for _, answer in answers]
    assert [record.pop("name") for record in records] == [name for name, _ in pictures]
    assert [*numbers(records)] == [pytest.approx(leaf, abs=1e-5) if isinstance(leaf, float) else leaf
                                   for leaf in numbers([*expected.values()])]


def test_several_pictures_and_a_broken_one_are_answered_each(service: int, pictures: list[tuple[str, bytes]]) -> None:
    status, answer = ask(service, "POST", "/api/describe?top_k=2", **form(pictures[0], ("../a<b>.png", b"no picture"),
                                                                          pictures[1]))
    first, broken, last = answer["results"]
    assert status == 200
    assert len(first["classification"]) == len(first["pictures"]) == len(last["artists_by_mean"]) == 2
    assert broken == {"name": "../a<b>.png", "error": "no picture in a known format"}


def test_base64_is_taken(service: int, pictures: list[tuple[str, bytes]]) -> None:
    text = base64.b64encode(pictures[0][1]).decode()
    body = json.dumps({"images": [{"name": "a", "data": text}, {"data": f"data:image/png;base64,{text}"}]}).encode()
    status, answer = ask(service, "POST", "/api/classify", body, content_type="application/json")
    first, second = answer["results"]
    assert (status, first["name"], second["name"]) == (200, "a", "picture 2")
    assert [each["class_name"] for each in first["classification"]] == [
        each["class_name"] for each in second["classification"]]


def test_a_picture_is_explained(service: int, pictures: list[tuple[str, bytes]]) -> None:
    assert ask(service, "GET", "/api/about")[1]["explains"] is True
    first = ask(service, "POST", "/api/classify", **form(pictures[0]))[1]["results"][0]["classification"]
    status, answer = ask(service, "POST", "/api/explain?artist=top3", **form(pictures[0]))
    record = answer["results"][0]
    assert (status, record["name"], len(record["box"])) == (200, pictures[0][0], 4)
    assert [each["class_name"] for each in record["maps"]] == [each["class_name"] for each in first]
    assert [each["probability"] for each in record["maps"]] == pytest.approx([each["probability"] for each in first])
    picture = base64.b64decode(record["maps"][0]["image"].removeprefix("data:image/png;base64,"))
    assert picture.startswith(b"\x89PNG")
    assert 'lsnet_pictures_total{outcome="explained"}' in ask(service, "GET", "/metrics")[1].decode()


@pytest.mark.parametrize(("method", "path", "request_", "status", "told"), [
    ("POST", "/api/explain", form(("a.png", b"no picture")), 422, "no picture in a known format"),
    ("POST", "/api/explain", form(("a.png", b""), ("b.png", b"")), 413, "one per request"),
    ("POST", "/api/explain?artist=artist_l", form(("a.png", b"")), 422, "artist artist_l, whom the network"),
    ("POST", "/api/explain?form=gif", form(("a.png", b"")), 422, "form"),
    ("POST", "/api/explain", {"body": b"x"}, 415, "multipart/form-data"),
    ("POST", "/api/classify", form(("a.png", b"no picture")), 422, "no picture in a known format"),
    ("POST", "/api/classify", form(("a.png", png_that_claims(20000, 15000))), 422, "more than the limit"),
    ("POST", "/api/classify", form(), 422, "0 pictures; expected 1 to 20"),
    ("POST", "/api/classify", form(*[("a", b"")] * 21), 400, "Too many files"),
    ("POST", "/api/classify", {"body": b"x" * (2**20 + 1), "content_type": "multipart/form-data"}, 413, "1 MiB"),
    ("POST", "/api/classify", {"body": b"x", "content_type": "multipart/form-data"}, 400, "cannot be read"),
    ("POST", "/api/classify", {**form(("a", b"")), "content_type": "multipart/form-data; boundary=zzz"}, 400, "form"),
    ("POST", "/api/classify", {**(whole := form(("a", b"b"), ("c", b""))), "body": whole["body"][:-9]}, 400, "cut off"),
    ("POST", "/api/classify", {"body": b"x"}, 415, "multipart/form-data"),
    ("POST", "/api/classify", {"body": b"{", "content_type": "application/json"}, 422, '"images"'),
    ("POST", "/api/classify", {"body": b'{"images":[{"data":"?"}]}', "content_type": "application/json"}, 422,
     "base64"),
    ("POST", "/api/classify?top_k=0", form(("a", b"")), 422, "top_k"),
    ("POST", "/api/gallery?artist=a%2Fb", form(("a", b"")), 422, "a/b"),
    ("DELETE", "/api/gallery?artist=Nobody", {}, 422, "no artist 'Nobody'"),
    ("GET", "/api/classify", {}, 405, "Method Not Allowed"), ("GET", "/nothing", {}, 404, "Not Found"),
    ("GET", "/page/../app.py", {}, 404, "Not Found"), ("GET", "/page/%2e%2e/app.py", {}, 404, "Not Found"),
    ("GET", "/api/about", {"host": "evil.example"}, 421, "another name"),
    ("GET", "/api/about", {"host": "localhost.evil.example:80"}, 421, "another name"),
    ("GET", "/api/about", {"origin": "http://evil.example"}, 403, "other origins"),
    ("GET", "/api/about", {"origin": "null"}, 403, "other origins")])
def test_what_is_wrong_is_told(service: int, method: str, path: str, request_: dict[str, Any], status: int,
                               told: str) -> None:
    found, answer = ask(service, method, path, **request_)
    assert found == status
    assert told in answer["error"]
    assert ask(service, "GET", "/health") == (200, {"status": "ok", "waiting": 0})


def test_an_artist_is_added_found_and_removed(service: int, pictures: list[tuple[str, bytes]]) -> None:
    name, content = pictures[0]
    before = ask(service, "GET", "/api/gallery")[1]["artists"]
    added = ask(service, "POST", "/api/gallery?artist=%3Cb%3E%E5%8C%97%E6%96%8E",
                **form((f"folder/{name}", content), ("broken.png", b"")))
    assert added[0] == 200
    assert added[1] == {"artist": "<b>北斎", "added": 1, "failures": [
        {"name": "broken.png", "error": added[1]["failures"][0]["error"]}]}
    nearest = ask(service, "POST", "/api/search", **form((name, content)))[1]["results"][0]["pictures"][0]
    assert nearest["image"] == f"<b>北斎/{name}"
    assert nearest["cosine_similarity"] == pytest.approx(1, abs=1e-5)
    assert ask(service, "DELETE", "/api/gallery?artist=%3Cb%3E%E5%8C%97%E6%96%8E")[0] == 200
    assert ask(service, "GET", "/api/gallery")[1]["artists"] == before


@pytest.mark.slow
@pytest.mark.skipif(not (importlib.util.find_spec("pymilvus") and importlib.util.find_spec("milvus_lite")),
                    reason="the packages of requirements-milvus.txt are not installed")
def test_a_gallery_in_milvus_answers_and_changes_as_the_folder(service: int, trained: Path, gallery: Path,
                                                               tmp_path: Path, run_script: Callable[..., Any],
                                                               pictures: list[tuple[str, bytes]]) -> None:
    place = f"milvus:{tmp_path / 'galleries.db'}"
    done = run_script("tools/build_gallery.py", "--gallery", gallery, "--copy-to", place)
    assert done.returncode == 0, done.stderr
    with served(tmp_path, "--checkpoint", trained, "--gallery", place, "--writable") as (_, port):
        found, expected = (ask(each, "POST", "/api/search", **form(*pictures[:4]))[1] for each in (port, service))
        assert [*numbers(found)] == [pytest.approx(leaf, abs=1e-5) if isinstance(leaf, float) else leaf
                                     for leaf in numbers(expected)]
        test_an_artist_is_added_found_and_removed(port, pictures)


def test_a_client_that_leaves_and_many_at_once_lose_nothing(service: int, pictures: list[tuple[str, bytes]]) -> None:
    body = form(*pictures)
    with socket.create_connection(("127.0.0.1", service)) as leaving:
        leaving.sendall(b"POST /api/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
                        b"boundary=x\r\nContent-Length: 1000\r\n\r\nabc")
    with ThreadPoolExecutor(16) as pool:
        answers = [*pool.map(lambda _: ask(service, "POST", "/api/classify", **body), range(16))]
    assert all(status == 200 and len(answer["results"]) == len(pictures) for status, answer in answers)
    figures = ask(service, "GET", "/metrics")[1].decode()
    assert 'lsnet_requests_total{path="/api/classify",status="200"}' in figures
    assert "lsnet_waiting_pictures 0.0" in figures


def test_the_api_is_described(service: int) -> None:
    status, schema = ask(service, "GET", "/openapi.json")
    assert status == 200
    assert {"/health", "/metrics", "/api/classify", "/api/search", "/api/explain", "/api/gallery"} <= {*schema["paths"]}


def test_a_key_a_small_queue_and_a_gallery_to_read(trained: Path, gallery: Path, tmp_path: Path,
                                                   pictures: list[tuple[str, bytes]]) -> None:
    with served(tmp_path, "--checkpoint", trained, "--gallery", gallery, "--queue", 2, "--upload-time", 1,
                "--allow-origin", "https://friend.example", env={KEY_VARIABLE: KEY}) as (script, port):
        assert ask(port, "GET", "/api/about")[0] == ask(port, "GET", "/api/about", authorization="Bearer x")[0] == 401
        assert ask(port, "GET", "/health")[0] == 200
        assert ask(port, "GET", "/api/about", authorization=f"Bearer {KEY}", origin="https://friend.example")[0] == 200
        status, answer = ask(port, "POST", "/api/classify", authorization=f"Bearer {KEY}", **form(*pictures[:3]))
        assert (status, answer["error"]) == (429, "the queue is full; try again soon")
        assert ask(port, "POST", "/api/explain", **form(pictures[0]))[0] == 401
        with socket.create_connection(("127.0.0.1", port), timeout=60) as slow:
            slow.sendall(f"POST /api/classify HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
                         "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{".encode())
            assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")
        status, answer = ask(port, "DELETE", "/api/gallery?artist=artist_0", authorization=f"Bearer {KEY}")
        assert (status, answer["error"]) == (403, "the gallery may only be read; start the service with --writable")
        script.send_signal(signal.SIGTERM)
        assert "stopped by SIGTERM" in script.communicate(60)[0]
        assert script.returncode == 128 + signal.SIGTERM
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(os.name != "posix", reason="only POSIX limits the size of files")
def test_a_full_disk_is_told_and_the_next_request_is_answered(trained: Path, gallery: Path, tmp_path: Path,
                                                              pictures: list[tuple[str, bytes]]) -> None:
    own = tmp_path / "gallery"
    shutil.copytree(gallery, own)
    with served(tmp_path, "--checkpoint", trained, "--gallery", own, "--writable",
                env={forked.FILE_LIMIT: "1000"}) as (_, port):
        status, answer = ask(port, "POST", "/api/gallery?artist=New", **form(*pictures))
        assert status == 507
        assert answer["error"].startswith("the gallery cannot be written (")
        assert len(ask(port, "GET", "/api/gallery")[1]["artists"]) == 3
        assert ask(port, "POST", "/api/search", **form(pictures[0]))[0] == 200


@pytest.mark.parametrize(("flags", "told"), [
    ([], "no --checkpoint"), (["--checkpoint", "x", "--host", "0.0.0.0"], "--host 0.0.0.0 without an API key"),
    (["--model", "lsnet_t", "--pretrained"], "--pretrained without --gallery"),
    (["--checkpoint", "x", "--writable"], "--writable without --gallery"),
    (["--checkpoint", "x", "--api-key-file", "none"], "--api-key-file none, which cannot be read"),
    (["--checkpoint", "x", "--host", "192.0.2.1", "--insecure"], "where nothing can listen"),
    (["--checkpoint", "none.pth", "--port", "0"], "none.pth")])
def test_flags_that_cannot_work_are_told(flags: list[str], told: str, capsys: pytest.CaptureFixture[str],
                                         monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert main(flags) == 2
    assert told in capsys.readouterr().err


def test_a_short_key_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text("short", encoding="ascii")
    assert main(["--checkpoint", "x", "--api-key-file", str(tmp_path / "key")]) == 2
    assert "with a key of 5 letters; expected 16 or more" in capsys.readouterr().err
