"""What object stores answer when they do not do what was asked, in words and for good or not."""

from __future__ import annotations

import re

from distes.errors import StorageError
from distes.runs.storage.location import URI

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile in ~/.aws, or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, or the "
    "machine's service account",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, or with what "
    "DefaultAzureCredential accepts",
}
"""Where credentials come from, by family of schemes."""


class StoreError(StorageError):
    """An object store did not answer, or not well, in the time there was."""


class StoreRefusedError(StoreError):
    """An object store will not do it; asking again does not help."""


def describe_fault(uri: URI, error: OSError) -> StoreError:
    """Put a store's error into a sentence that names its cause and what to set."""
    text = " ".join(str(error).split())
    families = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}
    family = families.get(uri.scheme, uri.scheme)
    known = CREDENTIALS.get(family, "its credentials")
    permanent = {
        r"NO_SUCH_BUCKET|NoSuchBucket|ContainerNotFound|bucket does not exist": (
            f"there is no bucket '{uri.bucket}': make it, or name another"
        ),
        r"INVALID_ACCESS_KEY_ID|InvalidAccessKeyId|SIGNATURE_DOES_NOT_MATCH|SignatureDoesNotMatch"
        r"|INVALID_CLIENT_TOKEN|InvalidToken|INVALID_TOKEN|UNRECOGNIZED_CLIENT"
        r"|AuthenticationFailed|HTTP status 401|UNAUTHENTICATED|Invalid Credentials": (
            f"the credentials are not accepted: set {known}"
        ),
        r"OAuth2 access token|NoCredentials|Unable to locate credentials|DefaultAzureCredential"
        r"|MISSING_AUTHENTICATION_TOKEN|unable to connect to account": (
            f"no credentials were found: set {known}"
        ),
        r"PERMANENT_REDIRECT|PermanentRedirect|HTTP status 301|AuthorizationHeaderMalformed": (
            "the bucket is in another region: set AWS_REGION, or ?region= in the URI"
        ),
        r"ACCESS_DENIED|AccessDenied|PERMISSION_DENIED|HTTP status 403|Forbidden"
        r"|AuthorizationPermissionMismatch|AuthorizationFailure|PermissionError": (
            "access is denied: listing, reading, writing and deleting there must be allowed to "
            f"the credentials ({known})"
        ),
        r"INVALID_BUCKET_NAME|InvalidBucketName": f"'{uri.bucket}' is no name of a bucket",
        r"NotImplemented": f"{uri.scheme}:// does not take what a run does there",
    }
    for pattern, sentence in permanent.items():
        if re.search(pattern, f"{type(error).__name__}: {text}"):
            return StoreRefusedError(f"'{uri}': {sentence}")
    # What a library says, without request numbers, shortened to its cause.
    detail = re.sub(r"\s*\(Request ID:[^)]*\)", "", text).rpartition("Details: ")[2]
    detail = detail if len(detail) <= 160 else detail[:157] + "..."
    if re.search(r"resolve host|connect|NETWORK_CONNECTION|Timeout", text, re.IGNORECASE):
        endpoint = "AWS_ENDPOINT_URL" if family == "s3" else "the endpoint"
        return StoreError(
            f"'{uri}' does not answer ({detail}): check the network and, for a server of one's "
            f"own, {endpoint}"
        )
    return StoreError(f"'{uri}' fails ({detail})")
