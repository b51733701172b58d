"""A storage service on this machine, for tests of buckets."""

import contextlib
import logging
from http import HTTPStatus

import pytest
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.server import create_server

_download = objects.download


def _download_with_generation(request, response, storage, *arguments, **options):
    """As Cloud Storage does, say which generation an object is of: without it, tensorstore cannot replace it."""
    _download(request, response, storage, *arguments, **options)
    if response.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        found = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
        response["x-goog-generation"] = found["generation"]


@contextlib.contextmanager
def storage_service():
    """The address of a bucket; fsspec and tensorstore look for it where the environment says."""
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)  # whatever is asked for and not there
    with (
        create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket") as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        service = server._api._httpd
        service.handle_error = lambda *request: None  # of a client that has seen enough of an answer
        address = f"http://127.0.0.1:{service.server_address[1]}"
        for name in ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"):
            patch.setenv(name, address)
        patch.setenv("GOOGLE_CLOUD_PROJECT", "test")
        # Else every call asks for credentials first, to find out the type of the bucket.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        patch.setattr(objects, "download", _download_with_generation)
        yield "gs://bucket"
