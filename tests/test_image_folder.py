"""Folders and archives of pictures: order, colours, sizes, splits, the cache, and what is refused."""

import io
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from hpjax.data import DATASETS, cache, decode, picture_files
from hpjax.data import dataset as dataset_lib
from hpjax.errors import ConfigError, DataError
from made_pictures import write_tar


def load(**settings):
    return DATASETS.get("image_folder")(**{"data_dir": None, **settings})


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    """The user's cache folder, a new one for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hpjax"


def packed(image, form="PNG", **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, form, **options)
    return file.getvalue()


def made(rng, splits=("train", "val", "test"), classes=("cat", "dog", "emu"), each=10, shape=(6, 5, 3)):
    """Returns pictures, uint8 arrays, by path."""
    paths = [f"{split}/{one}/{i:03}.png".lstrip("/") for split in splits for one in classes for i in range(each)]
    return {path: rng.integers(0, 256, shape, np.uint8) for path in paths}


def files(images):
    return {path: packed(image) for path, image in images.items()}


def write(root, contents):
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def put(kind, tmp_path, contents):
    """Writes files as a folder or an archive and returns where they are."""
    if kind == "folder":
        return write(tmp_path / "mine", contents)
    write_tar(tmp_path / f"mine.{kind}", contents)
    return tmp_path / f"mine.{kind}"


def refused(error=DataError, **settings):
    with pytest.raises(error) as raised:
        load(**settings)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz"])
@pytest.mark.parametrize("top", ["", "animals/", "./"])
def test_three_splits(tmp_path, rng, kind, top):
    images = made(rng)
    shuffled = list(images)
    rng.shuffle(shuffled)
    root = put(kind, tmp_path, {top + path: packed(images[path]) for path in shuffled})
    data = load(data_file=root)
    dataset_lib.check(data)
    assert data.class_names == ("cat", "dog", "emu")
    assert data.splits == {"train": (0, 30), "val": (30, 30), "test": (60, 30)}
    for split in data.splits:
        x, y = data.part(split)
        np.testing.assert_array_equal(y, np.repeat([0, 1, 2], 10))
        np.testing.assert_array_equal(x, [image for path, image in images.items() if path.startswith(split)])
    standardised = np.array(data.scale) * data.part("train")[0].astype(np.float64) + np.array(data.shift)
    np.testing.assert_allclose(standardised.mean((0, 1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(standardised.std((0, 1, 2)), 1, atol=1e-9)


def test_what_has_no_folder_is_taken_from_training(tmp_path, rng):
    images = made(rng, ("train", "test"))
    root = write(tmp_path / "two", files(images))
    data = load(data_file=root)
    assert {split: size for split, (_, size) in data.splits.items()} == {"train": 24, "val": 6, "test": 30}
    np.testing.assert_array_equal(np.bincount(data.part("val")[1]), [2, 2, 2])
    found = {x.tobytes(): y for x, y in zip(data.x, data.y, strict=True)}
    assert found == {image.tobytes(): "cde".index(path.split("/")[1][0]) for path, image in images.items()}
    assert load(data_file=root, validation_fraction=0.5).splits["val"][1] == 15
    assert load(data_file=root, validation_fraction=0.0).splits["val"][1] == 0
    assert (load(data_file=root, split_seed=1).x != data.x).any()
    alone = load(data_file=write(tmp_path / "none", files(made(rng, ("",)))))
    assert {split: size for split, (_, size) in alone.splits.items()} == {"train": 18, "val": 6, "test": 6}
    validated = load(data_file=write(tmp_path / "valid", files(made(rng, ("train", "valid")))))
    assert {split: size for split, (_, size) in validated.splits.items()} == {"train": 30, "val": 30, "test": 0}
    for setting, split in (("validation_fraction", "val"), ("test_fraction", "test")):
        root = write(tmp_path / split, files(made(rng, ("train", split))))
        assert f"{setting} is 0.1, but '{root}' has a folder {split}" in refused(
            ConfigError, data_file=root, **{setting: 0.1}
        )


def test_the_file_is_looked_for_in_the_data_folder(tmp_path, rng, monkeypatch):
    write(tmp_path / "data" / "mine", files(made(rng)))
    assert len(load(data_file="mine", data_dir=tmp_path / "data").x) == 90
    monkeypatch.setenv("HPJAX_DATA_DIR", str(tmp_path / "data"))
    assert len(load(data_file="mine").x) == 90
    monkeypatch.chdir(tmp_path)
    error = refused(data_file="yours")
    assert f"'{tmp_path / 'yours'}' or '{tmp_path / 'data' / 'yours'}'" in error


def test_colours():
    """Whatever the file's kind of pixels, bytes of red, green and blue."""
    gray = np.arange(30, dtype=np.uint8).reshape(5, 6) * 8
    rgb = np.stack([gray, gray[::-1], gray[:, ::-1]], -1)
    three = np.repeat(gray[..., None], 3, -1)
    alpha = np.concatenate([rgb, gray[..., None]], -1)
    palette = Image.fromarray(gray).convert("P")
    expected = {
        "RGB": (packed(rgb), rgb),
        "gray": (packed(gray), three),
        "gray and alpha": (packed(Image.fromarray(gray).convert("LA")), three),
        "RGBA": (packed(alpha), rgb),
        "16 bits": (packed(gray.astype(np.uint16) * 256 + 77), three),
        "palette": (packed(palette), three),
        "transparent palette": (packed(palette, transparency=bytes(range(200))), three),
        "black and white": (packed(Image.fromarray(gray > 100)), np.repeat((gray > 100)[..., None], 3, -1) * 255),
        "first of two": (packed(rgb, save_all=True, append_images=[Image.fromarray(255 - rgb)]), rgb),
    }
    for kind, (content, pixels) in expected.items():
        got = decode.decode(content, None)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, pixels, err_msg=kind)
    cmyk = packed(Image.fromarray(rgb).resize((32, 32)).convert("CMYK"), "JPEG", quality=100)
    assert decode.decode(cmyk, None).shape == (32, 32, 3)
    with pytest.raises(ValueError, match="32-bit numbers"):
        decode.decode(packed(gray.astype(np.float32), "TIFF"), None)


def test_a_turned_picture_is_turned_back(rng):
    image = rng.integers(0, 256, (4, 7, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(decode.decode(packed(image, exif=exif), None), np.rot90(image, -1))
    np.testing.assert_array_equal(decode.decode(packed(image, exif=b"Exif\0\0damaged"), None), image)


def test_sizes(tmp_path, rng):
    images = made(rng, each=4)
    images["train/dog/odd.png"] = rng.integers(0, 256, (8, 12, 3), np.uint8)
    root = write(tmp_path / "mine", files(images))
    error = refused(data_file=root)
    assert "is 5 x 6, 'train/dog/odd.png' 12 x 8; expected pictures of one size, or --image_size=PIXELS" in error
    data = load(data_file=root, image_size=8)
    assert data.x.shape == (37, 8, 8, 3)
    # Its shorter side has the right length: only the middle is cut out.
    at = sorted(path for path in images if path.startswith("train")).index("train/dog/odd.png")
    np.testing.assert_array_equal(data.x[at], images["train/dog/odd.png"][:, 2:10])
    assert load(data_file=root, image_size=3).x.shape == (37, 3, 3, 3)
    flat = np.broadcast_to(np.uint8([10, 20, 30]), (40, 60, 3))
    np.testing.assert_array_equal(decode.decode(packed(flat), 16), np.broadcast_to(np.uint8([10, 20, 30]), (16, 16, 3)))


def bad_pictures(rng):
    whole = packed(rng.integers(0, 256, (6, 5, 3), np.uint8))
    return {
        "train/cat/bad.png": whole[: len(whole) // 2],
        "train/dog/empty.png": b"",
        "train/emu/text.jpg": b"no picture",
        "test/cat/flipped.png": whole[:50] + bytes([whole[50] ^ 255]) + whole[51:],
    }


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_bad_files(tmp_path, rng, capsys, kind):
    images = made(rng)
    root = put(kind, tmp_path, {**files(images), **bad_pictures(rng)})
    for _ in range(2):  # decoded, then from the cache
        error = refused(data_file=root)
        assert f"4 of 94 pictures in '{root}' cannot be read: " in error
        assert "and 1 more; mend or remove them, or give --bad_files=skip" in error
        assert sum(name in error for name in bad_pictures(rng)) == 3
        capsys.readouterr()
        data = load(data_file=root, bad_files="skip")
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("skipped: 4 of 94 pictures")
        assert {split: size for split, (_, size) in data.splits.items()} == {"train": 30, "val": 30, "test": 30}
        np.testing.assert_array_equal(data.x, list(images.values()))


def test_nothing_is_left(tmp_path, rng):
    root = write(tmp_path / "all", {f"train/{name}/1.png": b"" for name in "ab"})
    assert "none of 2 pictures can be read: 'train/a/1.png' (no picture)" in refused(data_file=root, bad_files="skip")
    root = write(tmp_path / "one", {**files(made(rng)), "train/fox/1.png": b"", "val/fox/1.png": b"", "test/fox/1.png": b""})
    assert "no training picture of class 'fox'" in refused(data_file=root, bad_files="skip")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path, rng):
    root = write(tmp_path / "mine", files(made(rng)))
    (root / "train/cat/000.png").chmod(0)
    assert "'train/cat/000.png' (permission denied)" in refused(data_file=root)


def test_links_and_pipes_in_a_folder(tmp_path, rng):
    images = made(rng)
    root = write(tmp_path / "mine", files(images))
    elsewhere = write(tmp_path / "elsewhere", {"x.png": packed(images["train/cat/000.png"])})
    (root / "train/cat/000.png").unlink()
    (root / "train/cat/000.png").symlink_to(elsewhere / "x.png")
    (root / "train/cat/round").symlink_to(root / "train")
    np.testing.assert_array_equal(load(data_file=root).x, list(images.values()))
    (elsewhere / "x.png").unlink()
    assert "1 of 90 pictures" in refused(data_file=root)
    os.mkfifo(root / "train/cat/pipe.png")
    assert "pipe.png' is no file" in refused(data_file=root)


def member(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (member("train/cat/link.png", tarfile.SYMTYPE, "/etc/passwd"), "has a link or device 'train/cat/link.png'"),
        (member("train/cat/link.png", tarfile.LNKTYPE, "train/cat/000.png"), "has a link or device"),
        (member("train/cat/device.png", tarfile.CHRTYPE), "has a link or device"),
        (member("train/cat/pipe.png", tarfile.FIFOTYPE), "has a link or device"),
        (member("../out.png", tarfile.REGTYPE), "has a member '../out.png', which leads out of it"),
        (member("/out.png", tarfile.REGTYPE), "has a member '/out.png', which leads out of it"),
        (member("train/cat/000.png", tarfile.REGTYPE), "has the picture 'train/cat/000.png' twice"),
    ],
)
def test_only_files_of_an_archive_are_read(tmp_path, rng, extra, message):
    write_tar(tmp_path / "mine.tar", files(made(rng)), [extra])
    assert message in refused(data_file=tmp_path / "mine.tar")


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_damaged_archives(tmp_path, rng, kind):
    path = put(kind, tmp_path, files(made(rng)))
    content = path.read_bytes()
    # Cut anywhere: in a header, in a picture, or between two files, where a part looks like a whole.
    cuts = [content[:end] for end in (1, 512, 700, 1024, len(content) // 2, len(content) // 1024 * 512)]
    overwritten = content[:1024] + b"x" * 512 + content[1536:]
    for damaged in (*cuts, overwritten, b"", b"no archive"):
        path.write_bytes(damaged)
        assert f"file '{path}' is a damaged or truncated tar file, or none" in refused(data_file=path)
    if kind == "tar.gz":
        path.write_bytes(content[:-6] + bytes([content[-6] ^ 255]) + content[-5:])
        assert "is a damaged or truncated tar file" in refused(data_file=path)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["train/a/1.png", "train/b/1.png", "tset/a/1.png"], "folder 'tset' lies beside 'train'"),
        (["val/a/1.png", "val/b/1.png"], "there is no folder train beside val"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png"], "folder 'valid' is a second one"),
        (["train/a/1.png", "train/b/1.png", "test/a/1.png"], "class folder 'b' is in train but not in test"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png", "val/c/1.png"], "'c' is in val but not in train"),
        (["train/a/1.png", "train/1.png"], "picture 'train/1.png' lies in no class folder"),
        (["1.png", "2.png"], "picture '1.png' lies in no class folder"),
        (["a/1.png", "a/2.png"], "there is only the class 'a'; expected at least two class folders"),
        (["train/a/1.png", "train/b/1.png", "train/c/1.txt"], "class folder 'train/c' has no picture"),
        (["a/1.png", "b/1.png", "c/readme.txt"], "class folder 'c' has no picture"),
        (["a/1.txt"], "has no picture (.bmp, .gif"),
    ],
)
def test_other_orders_are_refused(tmp_path, rng, paths, message):
    picture = packed(rng.integers(0, 256, (3, 3, 3), np.uint8))
    root = write(tmp_path / "mine", {path: picture for path in paths})
    assert message in refused(data_file=root)


def test_what_computers_leave_about_is_passed_over(tmp_path, rng):
    images = made(rng)
    rubbish = {"README": b"", "__MACOSX/train/cat/._000.png": b"", "train/.DS_Store": b"", "train/cat/._000.png": b""}
    rubbish |= {"train/cat/Thumbs.db": b"", ".git/x/y.png": b"", "train/list.txt": b""}
    for kind in ("folder", "tar"):
        data = load(data_file=put(kind, tmp_path, {**files(images), **rubbish}))
        np.testing.assert_array_equal(data.x, list(images.values()))
    deep = write(tmp_path / "deep", files({f"{'/'.join(p.split('/')[:-1])}/more/{p[-7:]}": i for p, i in images.items()}))
    np.testing.assert_array_equal(load(data_file=deep).x, list(images.values()))


@pytest.fixture
def decoded(monkeypatch):
    """How many pictures were decoded so far, in a list."""
    calls = []
    once = decode.decode
    monkeypatch.setattr(decode, "decode", lambda content, size: calls.append(size) or once(content, size))
    return calls


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_the_cache(tmp_path, rng, decoded, cache_dir, capsys, kind):
    images = made(rng)
    root = put(kind, tmp_path, files(images))

    def check(count, **settings):
        decoded.clear()
        data = load(data_file=root, **settings)
        assert len(decoded) == count
        return data

    first = check(90)
    (path,) = cache_dir.iterdir()
    second = check(0)
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.y, second.y)
    assert first.fingerprint() == second.fingerprint()
    check(0, bad_files="skip")
    check(90, image_size=4)
    check(90, cache_dir=tmp_path / "other")
    check(0, cache_dir=tmp_path / "other")
    capsys.readouterr()

    content = path.read_bytes()
    middle = len(content) // 2
    for damaged in (content[:middle], content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :], b"", b"x"):
        path.write_bytes(damaged)
        np.testing.assert_array_equal(check(90).x, first.x)
        assert f"cached file '{path}' is damaged and is made again" in capsys.readouterr().err
        assert path.read_bytes() == content
        check(0)

    # Another picture of the same length: the time of change tells.
    for one in root.rglob("*.png") if kind == "folder" else [root]:
        os.utime(one, ns=(0, one.stat().st_mtime_ns + 1))
        break
    check(90)


def test_a_cache_that_cannot_be_written(tmp_path, rng, decoded, capsys):
    root = write(tmp_path / "mine", files(made(rng)))
    (tmp_path / "file").write_bytes(b"")
    for _ in range(2):
        assert len(load(data_file=root, cache_dir=tmp_path / "file").x) == 90
        assert "the decoded pictures are not cached" in capsys.readouterr().err
    assert len(decoded) == 180


def test_a_cache_that_is_cut_off_leaves_no_name(tmp_path, monkeypatch, capsys):
    def full(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    cache.store(tmp_path / "new" / "x.npz", {"a": np.zeros(3)})
    assert "No space left" in capsys.readouterr().err
    assert not list((tmp_path / "new").iterdir())


def test_the_place_of_the_cache(tmp_path, monkeypatch):
    assert cache.folder(None) == tmp_path / "cache" / "hpjax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder(None) == tmp_path / ".cache" / "hpjax"
    assert cache.folder("~/mine") == tmp_path / "mine"


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_threads(rng, monkeypatch, workers):
    monkeypatch.setattr(os, "cpu_count", lambda: workers)
    images = list(made(rng, each=50).values())
    contents = [packed(image) for image in images]
    places = rng.permutation(len(images))
    reads = iter([lambda content=content: content for content in contents])
    x, bad = decode.decode_all([str(i) for i in range(len(images))], reads, places.tolist(), None, 1e9)
    assert not bad
    np.testing.assert_array_equal(x[places], images)


@pytest.mark.skipif(not os.environ.get("HPJAX_DATA_DIR"), reason="HPJAX_DATA_DIR is not set: no real pictures")
def test_real_pictures(cache_dir):
    data = load(data_file="cifar10/cifar10-imagefolder-12k.tar")
    assert data.x.shape == (12000, 32, 32, 3)
    assert data.splits == {"train": (0, 8000), "val": (8000, 2000), "test": (10000, 2000)}
    assert data.class_names[:3] == ("airplane", "automobile", "bird")
    np.testing.assert_array_equal(np.bincount(data.part("train")[1]), 800)
    np.testing.assert_array_equal(np.bincount(data.part("test")[1]), 200)
    # Known of CIFAR-10: means 125.3, 123.0, 113.9 and deviations 63.0, 62.1, 66.7 of its channels; a sample comes near.
    np.testing.assert_allclose(1 / np.array(data.scale), [63.0, 62.1, 66.7], rtol=0.03)
    np.testing.assert_allclose(-np.array(data.shift) / np.array(data.scale), [125.3, 123.0, 113.9], rtol=0.03)
    # The same from an independent reading of one picture.
    with tarfile.open(os.path.join(os.environ["HPJAX_DATA_DIR"], "cifar10/cifar10-imagefolder-12k.tar")) as tar:
        image = np.asarray(Image.open(tar.extractfile("test/frog/0007.jpg")))
    np.testing.assert_array_equal(data.part("test")[0][6 * 200 + 7], image)


def test_suffixes_are_those_of_pillow():
    Image.init()
    assert set(picture_files.SUFFIXES) <= set(Image.registered_extensions())
