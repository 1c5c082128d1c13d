"""Files of a bucket: listed, read and labelled as those of a folder."""

from __future__ import annotations

import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs, parquet

from dexpression.__main__ import main
from dexpression.cluster.remote import RemoteSource, open_uri
from dexpression.cluster.source import FolderSource
from dexpression.errors import DataError
from dexpression.files import BinaryFile
from tests.support.tools import create_environment

MOTO = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("%s:%d" % server.get_host_and_port())
server._thread.join()
"""


@pytest.fixture
def bucket(source: Path) -> RemoteSource:
    """What S3 is for pyarrow, on a folder of this machine."""
    return RemoteSource(fs.SubTreeFileSystem(str(source.parent), fs.LocalFileSystem()), "photos/", "s3://photos/")


def read(file: BinaryFile) -> bytes:
    return b"".join(iter(lambda: file.read(1000), b""))


def test_files_are_listed_as_those_of_a_folder(bucket, source):
    assert [entry.path for entry in bucket.list_entries()] == [
        entry.path for entry in FolderSource(source).list_entries()
    ]


def test_another_process_reads_the_same_files(bucket, source):
    with pickle.loads(pickle.dumps(bucket)).open("below/03.png") as file:
        assert read(file) == (source / "below" / "03.png").read_bytes()


def test_a_bucket_that_is_gone_or_cannot_be_reached_is_an_error_of_the_source(bucket, source):
    bucket.check()
    source.rename(source.with_name("away"))
    with pytest.raises(DataError, match="There is no file in s3://photos/"):
        bucket.check()
    with pytest.raises(DataError, match=r"s3://photos/ cannot be read .* Check the address"):
        bucket.list_entries()


def test_a_uri_of_this_machines_files_is_a_folder(source):
    assert open_uri(source.as_uri()).name == str(source)


def test_a_password_is_in_no_message_and_in_no_record():
    assert open_uri("s3://key:secret@bucket/photos?region=us-east-1").name == "s3://bucket/photos?region=us-east-1"
    with pytest.raises(DataError, match=r"^http://host/photos cannot be read") as error:
        open_uri("http://name:secret@host/photos")
    assert "secret" not in str(error.value)


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[str]:
    """The address of moto, which plays S3, from an environment of its own: its packages exclude some of ours."""
    try:
        commands = create_environment(tmp_path / "environment", "moto[s3,server]==5.2.2")
    except subprocess.SubprocessError as error:
        pytest.skip(f"moto, which plays S3, cannot be installed: {error}")
    command = [commands / "python", "-u", "-c", MOTO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as moto:
        assert moto.stdout
        yield moto.stdout.readline().strip()
        moto.kill()


@pytest.mark.slow
def test_a_bucket_of_s3_gives_the_rows_of_the_folder(s3, source, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    address = f"scheme=http&endpoint_override={s3}&region=us-east-1&allow_bucket_creation=true"
    made, root = fs.FileSystem.from_uri(f"s3://key:secret@photos?{address}")
    made.create_dir(root)
    fs.copy_files(str(source), f"{root}/in", fs.LocalFileSystem(), made)
    main(["label", f"s3://key:secret@photos/in?{address}", str(tmp_path / "of s3"), "--workers", "1"])
    main(["label", str(source), str(tmp_path / "of folder"), "--workers", "1"])
    assert parquet.read_table(tmp_path / "of s3") == parquet.read_table(tmp_path / "of folder")
    assert "secret" not in (tmp_path / "of s3" / "_manifest" / "job.json").read_text()
