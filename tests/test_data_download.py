"""Downloads, against a server of our own; and the manifest of the embedded data."""

import hashlib
import http.server
import json
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest

from nclib.data import DataError, fashion_mnist, folders, load, manifest
from nclib.data.download import download
from nclib.data.idx import to_gzip, to_idx

CONTENT = np.random.default_rng(0).integers(0, 256, 50_000, dtype=np.uint8).tobytes()
PACKED = to_gzip(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; /full ignores ranges, /cut sends half of what it says, /wrong shifts ranges."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        _, mood, name = self.path.split("/", 2)
        asked = self.headers.get("Range")
        self.server.requests.append((mood, name, asked))
        content = self.server.files.get(name)
        if content is None or mood == "gone":
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and mood != "full" else 0
        if asked and mood != "full" and start >= len(content):
            self.send_error(416)
            return
        if mood == "wrong" and asked:
            start -= 1
        self.send_response(206 if asked and mood != "full" else 200)
        if asked and mood != "full":
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) // 2 if mood == "cut" and not asked else len(content)
        self.wfile.write(content[start:end])


@pytest.fixture
def mirror():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.files, server.requests = {"file.gz": PACKED}, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "folder" / "file.gz"


def nothing_left(target):
    return not target.exists() and not list(target.parent.glob("*.part"))


def test_a_file_arrives_whole(mirror, target):
    assert download([f"{mirror.url}/good/file.gz"], target, sha256=SHA256) == target
    assert target.read_bytes() == PACKED
    assert [path.name for path in target.parent.iterdir()] == ["file.gz"]


def test_an_interrupted_transfer_is_resumed_by_the_next_call(mirror, target):
    with pytest.raises(DataError, match=r"connection closed after \d+ of \d+ bytes"):
        download([f"{mirror.url}/cut/file.gz"], target, sha256=SHA256)
    part = target.with_name("file.gz.part")
    assert not target.exists() and part.read_bytes() == PACKED[: len(PACKED) // 2]
    download([f"{mirror.url}/good/file.gz"], target, sha256=SHA256)
    assert mirror.requests[-1][2] == f"bytes={len(PACKED) // 2}-"
    assert target.read_bytes() == PACKED and not part.exists()


def test_the_next_mirror_goes_on_where_the_first_stopped(mirror, target):
    download([f"{mirror.url}/cut/file.gz", f"{mirror.url}/good/file.gz"], target, sha256=SHA256)
    assert [(mood, bool(asked)) for mood, _, asked in mirror.requests] == [("cut", False), ("good", True)]
    assert target.read_bytes() == PACKED


@pytest.mark.parametrize("mood", ["full", "good"])
@pytest.mark.parametrize("left", [b"rubbish from another file", PACKED[:1000], PACKED, PACKED + b"more"])
def test_whatever_was_left_behind_the_result_is_right(mirror, target, mood, left):
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(left)
    download([f"{mirror.url}/{mood}/file.gz"], target, sha256=SHA256)
    assert target.read_bytes() == PACKED


def test_a_server_that_answers_another_range_is_left(mirror, target):
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(PACKED[:1000])
    download([f"{mirror.url}/wrong/file.gz", f"{mirror.url}/good/file.gz"], target, sha256=SHA256)
    assert target.read_bytes() == PACKED


@pytest.mark.parametrize("altered", [to_gzip(CONTENT[::-1]), PACKED[:-1] + b"?", b"<html>sign in</html>"])
def test_altered_contents_are_refused_and_not_kept(mirror, target, altered):
    mirror.files["file.gz"] = altered
    with pytest.raises(DataError, match="delivered altered contents"):
        download([f"{mirror.url}/good/file.gz"], target, sha256=SHA256)
    assert nothing_left(target)


def test_when_all_mirrors_fail_each_is_named_with_its_reason(mirror, target):
    with pytest.raises(DataError) as error:
        download(
            [f"{mirror.url}/gone/file.gz", "http://127.0.0.1:1/file.gz"], target, sha256=SHA256, timeout=5
        )
    message = str(error.value)
    assert "HTTP 404" in message and "127.0.0.1:1" in message and "refused" in message and "\n" not in message
    assert nothing_left(target)


def test_the_first_mirror_may_fail(mirror, target):
    download([f"{mirror.url}/gone/file.gz", f"{mirror.url}/good/file.gz"], target, sha256=SHA256)
    assert target.read_bytes() == PACKED


# FashionMNIST by download, at a small size


@pytest.fixture
def small_family(mirror, tmp_path, monkeypatch):
    """FashionMNIST as it would be with 20 images, on our server; no data anywhere else."""
    rng = np.random.default_rng(1)
    contents = {}
    for images, labels in fashion_mnist.FILES.values():
        contents[images] = to_idx(rng.integers(0, 256, (20, 28, 28), dtype=np.uint8))
        contents[labels] = to_idx(np.arange(20, dtype=np.uint8) % 10)
    mirror.files = {f"{name}.gz": to_gzip(content) for name, content in contents.items()}
    family = replace(
        fashion_mnist.FASHION_MNIST,
        sha256={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        mirrors=(f"{mirror.url}/gone/", f"{mirror.url}/good/"),
    )
    monkeypatch.setattr(fashion_mnist, "FASHION_MNIST", family)
    monkeypatch.setattr("nclib.data.FASHION_MNIST", family)
    monkeypatch.setattr(folders, "SYSTEM", tmp_path / "system")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NCLIB_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return family


def test_fashion_mnist_is_downloaded_once_to_the_user_cache(small_family, mirror, tmp_path):
    dataset = load("fashion_mnist", "test")
    assert len(dataset) == 20 and dataset.y.tolist() == [i % 10 for i in range(20)]
    stored = sorted(path.name for path in (tmp_path / "cache" / "nclib" / "fashion-mnist").iterdir())
    assert stored == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    count = len(mirror.requests)
    load("fashion_mnist", "test")
    assert len(mirror.requests) == count


def test_fetch_brings_all_four_files_to_the_chosen_folder(small_family, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("NCLIB_DATA", str(tmp_path / "mine"))
    paths = manifest.fetch("fashion_mnist")
    assert len(paths) == 4 and all(path.parent == tmp_path / "mine" / "fashion-mnist" for path in paths)
    paths[2].write_bytes(paths[2].read_bytes()[:-200])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz is truncated"):
        manifest.fetch("fashion_mnist")


def test_when_nothing_works_the_error_says_what_to_do(small_family, mirror):
    mirror.files = {}
    with pytest.raises(DataError) as error:
        load("fashion_mnist")
    message = str(error.value)
    for part in ("fashion_mnist", "train-images", "404", "NCLIB_DATA", "dataset-fashion-mnist", "_subset"):
        assert part in message
    assert "\n" not in message
    with pytest.raises(DataError, match="nclib data fetch"):
        fashion_mnist.load_family(small_family, "train", fetch=False)


# The manifest


def test_every_embedded_file_is_intact_and_in_the_manifest():
    results = list(manifest.verify())
    assert [name for name, ok, _ in results if not ok] == []
    names = {name for name, _, _ in results}
    for collection in ("fashion_mnist_subset", "mnist1d", "published"):
        stored = {
            path for path in (folders.EMBEDDED / collection).iterdir() if path.suffix not in ("", ".md")
        }
        assert stored and {f"{collection}/{path.name}" for path in stored} <= names


def test_every_collection_names_origin_and_licence():
    for entry in manifest.read().values():
        assert entry["title"] and entry["origin"] and entry["licence"]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    root = tmp_path / "data"
    shutil.copytree(folders.EMBEDDED, root, ignore=shutil.ignore_patterns("runs"))
    monkeypatch.setattr(folders, "EMBEDDED", root)
    return root


@pytest.mark.parametrize("name", ["mnist1d/mnist1d.npz", "fashion_mnist_subset/train-images-idx3-ubyte.gz"])
@pytest.mark.parametrize("fault", ["missing", "truncated", "altered"])
def test_verify_and_load_name_a_damaged_file(copied, name, fault):
    path = copied / name
    content = path.read_bytes()
    if fault == "missing":
        path.unlink()
    elif fault == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    bad = {found: message for found, ok, message in manifest.verify() if not ok}
    assert list(bad) == [name] and "git checkout" in bad[name]
    with pytest.raises(DataError, match=rf"{path}.*restore it with git checkout"):
        load(name.split("/")[0])


def test_a_damaged_manifest_is_named(copied):
    (copied / "MANIFEST.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"MANIFEST\.json is not valid JSON"):
        list(manifest.verify())
    (copied / "MANIFEST.json").write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(DataError, match=r"lacks mnist1d/mnist1d\.npz"):
        load("mnist1d")
    (copied / "MANIFEST.json").unlink()
    with pytest.raises(DataError, match=r"MANIFEST\.json is missing"):
        load("mnist1d")


def test_fetch_of_embedded_data_needs_no_download():
    assert [path.name for path in manifest.fetch("mnist1d")] == ["mnist1d.npz"]
    with pytest.raises(ValueError, match=r"'imagenet'.*fashion_mnist"):
        manifest.fetch("imagenet")
