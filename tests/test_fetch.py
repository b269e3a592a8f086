"""Fetching: checksums before names, resumed downloads, and one clear line for whatever goes wrong; a server of our own."""

import hashlib
import http.server
import os
import threading

import pytest

from hpjax.data import __main__ as command_line
from hpjax.data import fetch as fetch_lib
from hpjax.data.published import CATALOGUE, File, Published

ONE = bytes(range(256)) * 4000
TWO = b"labels"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, knows byte ranges, and cuts off the first `server.cut` answers in the middle."""

    def do_GET(self):
        content = self.server.files.get(self.path)
        self.server.asked.append(self.headers.get("Range"))
        if content is None:
            self.send_error(404)
            return
        begin = int(self.headers.get("Range", "bytes=0-")[len("bytes=") : -1]) if self.server.ranges else 0
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        rest = content[begin:]
        if self.server.cut:
            self.server.cut -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as one:
        one.files = {"/data/one.bin": ONE, "/data/two.bin": TWO}
        one.cut, one.ranges, one.asked = 0, True, []
        one.address = f"http://127.0.0.1:{one.server_port}/data/"
        thread = threading.Thread(target=one.serve_forever, args=(0.01,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def published(name, content):
    return File(name, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture(autouse=True)
def catalogue(request, monkeypatch):
    address = request.getfixturevalue("server").address
    files = (published("one.bin", ONE), published("two.bin", TWO))
    monkeypatch.setitem(CATALOGUE, "made", Published("Made", address, files, "--dataset=made"))


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command line; returns its exit code and the lines of standard error."""

    def run(*words, data_dir=tmp_path):
        code = command_line.main(["", *words, *([f"--data_dir={data_dir}"] if data_dir else [])])
        return code, capsys.readouterr().err.splitlines()

    return run


def test_files_are_fetched_once(run, tmp_path, server):
    code, lines = run("--fetch=made")
    assert code == 0
    assert (tmp_path / "made" / "one.bin").read_bytes() == ONE
    assert (tmp_path / "made" / "two.bin").read_bytes() == TWO
    assert len(list((tmp_path / "made").iterdir())) == 2
    assert sum("its checksum is right" in line for line in lines) == 2
    assert len(server.asked) == 2
    code, lines = run("--fetch=made")
    assert code == 0
    assert len(server.asked) == 2
    assert sum("is there already" in line for line in lines) == 2


def test_the_environment_names_the_folder(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HPJAX_DATA_DIR", str(tmp_path / "new" / "er"))
    assert run("--fetch=made", data_dir=None)[0] == 0
    assert (tmp_path / "new" / "er" / "made" / "two.bin").read_bytes() == TWO


def test_a_mirror(run, server):
    server.files = {"/mirror/of/" + path.rpartition("/")[2]: content for path, content in server.files.items()}
    assert run("--fetch=made")[0] == 2
    for end in ("", "/"):
        assert run("--fetch=made", f"--from={server.address.removesuffix('data/')}mirror/of{end}")[0] == 0


def failed(run, tmp_path, *words):
    """Returns the one line of a fetch that must fail and leave no file under its name."""
    code, lines = run("--fetch=made", *words)
    assert code == 2
    errors = [line for line in lines if line.startswith("hpjax.data: ")]
    assert len(errors) == 1
    assert lines[-1] == errors[0]
    assert not (tmp_path / "made" / "one.bin").exists()
    return errors[0]


def test_wrong_contents_get_no_name(run, tmp_path, server):
    server.files["/data/one.bin"] = ONE[:-1] + b"x"
    error = failed(run, tmp_path)
    assert f"expected {hashlib.sha256(ONE).hexdigest()}" in error
    assert not list((tmp_path / "made").iterdir())
    server.files["/data/one.bin"] = ONE + b"more"
    assert f"expected {len(ONE)}" in failed(run, tmp_path)
    server.files["/data/one.bin"] = ONE
    assert run("--fetch=made")[0] == 0


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_is_cut_off_goes_on(run, tmp_path, server, ranges):
    server.cut, server.ranges = 1, ranges
    error = failed(run, tmp_path)
    assert f"the connection ended {len(ONE) // 2} bytes too early" in error
    assert (tmp_path / "made" / "one.bin.part").read_bytes() == ONE[: len(ONE) // 2]
    assert run("--fetch=made")[0] == 0
    assert server.asked[1] == f"bytes={len(ONE) // 2}-"
    assert (tmp_path / "made" / "one.bin").read_bytes() == ONE
    assert not (tmp_path / "made" / "one.bin.part").exists()


def test_a_shorter_file_is_no_file(run, tmp_path, server):
    server.files["/data/one.bin"] = ONE[:1000]
    assert f"the connection ended {len(ONE) - 1000} bytes too early" in failed(run, tmp_path)


def test_an_interrupted_download_goes_on(run, tmp_path, monkeypatch):
    class Interrupted(fetch_lib.Progress):
        def update(self, done):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch_lib, "Progress", Interrupted)
        code, lines = run("--fetch=made")
    assert code == 130
    assert "goes on where it was" in lines[-1]
    part = tmp_path / "made" / "one.bin.part"
    assert 0 < part.stat().st_size < len(ONE)
    assert run("--fetch=made")[0] == 0
    assert (tmp_path / "made" / "one.bin").read_bytes() == ONE


@pytest.mark.parametrize("content", [b"x" * 5000, ONE[:5000], ONE[:-1] + b"x", ONE + b"x"])
def test_an_old_part(run, tmp_path, content):
    """What is left of another download is used if it is the file's beginning, and thrown away at the latest at its end."""
    (tmp_path / "made").mkdir()
    part = tmp_path / "made" / "one.bin.part"
    part.write_bytes(content)
    if ONE.startswith(content):
        assert run("--fetch=made")[0] == 0
    else:
        failed(run, tmp_path)
        assert not part.exists()
        assert run("--fetch=made")[0] == 0
    assert (tmp_path / "made" / "one.bin").read_bytes() == ONE


def test_missing_files_and_networks(run, tmp_path, server):
    del server.files["/data/one.bin"]
    assert f"'{server.address}one.bin' answers 404 Not Found" in failed(run, tmp_path)
    # A port on which nobody listens: of a server that is gone.
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as gone:
        port = gone.server_port
    error = failed(run, tmp_path, f"--from=http://127.0.0.1:{port}")
    assert "cannot be had: connection refused; is there a network?" in error
    for address in ("file:///etc", "ftp://there", "there"):
        assert "expected an address that begins with http:// or https://" in failed(run, tmp_path, f"--from={address}")


def test_a_full_disk(run, tmp_path, monkeypatch):
    if not fetch_lib.Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "one.bin.part").symlink_to("/dev/full")
    assert "the disk is full" in failed(run, tmp_path)


def test_a_file_of_ones_own_is_left_alone(run, tmp_path):
    (tmp_path / "made").mkdir()
    path = tmp_path / "made" / "one.bin"
    path.write_bytes(b"mine")
    code, lines = run("--fetch=made")
    assert code == 2
    assert "is not the published one" in lines[-1]
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fetch=mad"], "data set 'mad' cannot be fetched; did you mean 'made'? those that can: cifar10,"),
        (["--fetch=digits"], "data set 'digits' cannot be fetched"),
        (["--fetch"], "flag 'fetch' has no value; expected --fetch=VALUE"),
        (["--fech=made"], "flag 'fech' is unknown; did you mean 'fetch'?"),
        (["made"], "argument 'made' is no flag; expected --name=value"),
        ([], "expected one of --list and --fetch=NAME"),
        (["--list", "--fetch=made"], "expected one of --list and --fetch=NAME"),
    ],
)
def test_bad_flags(run, words, message):
    code, lines = run(*words)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("hpjax.data: ")
    assert message in lines[0]


def test_no_folder(run, tmp_path, monkeypatch):
    monkeypatch.delenv("HPJAX_DATA_DIR", raising=False)
    assert "give --data_dir or the environment variable HPJAX_DATA_DIR" in run("--fetch=made", data_dir=None)[1][-1]
    (tmp_path / "file").write_bytes(b"")
    code, lines = run("--fetch=made", data_dir=tmp_path / "file")
    assert code == 2
    assert "cannot be made: not a directory" in lines[-1].lower()


def test_the_list(capsys):
    from hpjax.data import DATASETS

    assert command_line.main(["", "--list"]) == 0
    listed = capsys.readouterr().out
    for name in DATASETS.names():
        assert f"\n{name} ({DATASETS.task(name)})\n" in f"\n{listed}"
    for name, one in CATALOGUE.items():
        assert f"--fetch={name} " in listed
        assert one.address in listed
        for file in one.files:
            assert file.name in listed


def test_what_is_published_is_well_formed():
    for name, one in CATALOGUE.items():
        assert one.address.startswith("http")
        assert one.address.endswith("/")
        assert len({file.name for file in one.files}) == len(one.files)
        for file in one.files:
            assert file.size > 0, name
            assert len(file.sha256) == 64
            bytes.fromhex(file.sha256)


@pytest.mark.skipif(not os.environ.get("HPJAX_DATA_DIR"), reason="HPJAX_DATA_DIR is not set: no real text")
def test_the_real_text_is_the_published_one():
    (file,) = CATALOGUE["tinyshakespeare"].files
    content = (fetch_lib.Path(os.environ["HPJAX_DATA_DIR"]) / "tinyshakespeare" / file.name).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)
