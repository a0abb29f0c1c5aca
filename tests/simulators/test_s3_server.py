"""The S3 server that tests use lets through what a real storage would."""

import boto3
import pytest
from botocore.exceptions import ClientError

from s3_server import READ, REGION, WRITE, S3Server


def client(server: S3Server, key: tuple[str, str]) -> "boto3.client":
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        region_name=REGION,
    )


def test_what_is_rightly_signed_is_stored_and_told(moto_s3: S3Server) -> None:
    client(moto_s3, WRITE).put_object(Bucket=moto_s3.bucket, Key="a b/ä+=&.txt", Body=b"hello")
    assert moto_s3.paths() == ["a b/ä+=&.txt"]
    assert moto_s3.read("a b/ä+=&.txt") == b"hello"
    (told,) = moto_s3.requests
    assert (told.method, told.path) == ("PUT", f"/{moto_s3.bucket}/a b/ä+=&.txt")
    assert (told.key, told.status) == (WRITE[0], 200)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (READ, "AccessDenied"),
        ((WRITE[0], "wrong"), "SignatureDoesNotMatch"),
        (("stranger", "wrong"), "AccessDenied"),
    ],
)
def test_keys_do_what_they_may_alone(moto_s3: S3Server, key: tuple[str, str], code: str) -> None:
    with pytest.raises(ClientError, match=code):
        client(moto_s3, key).put_object(Bucket=moto_s3.bucket, Key="a", Body=b"")
    assert moto_s3.paths() == []
