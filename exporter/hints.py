"""What to check when an operation fails: by S3's error code, by status, or by what became of the connection.

R2's codes: https://developers.cloudflare.com/r2/api/error-codes/
S3's codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList
"""

from exporter.s3.xml import S3Error

NO_S3 = (
    "What answers may be no S3, or not at this place: check `endpoint` for a stray path or another port, and "
    "what stands between."
)
ALTERED = (
    "What came back is not what was written: look for a cache or a proxy that alters answers. If there is "
    "none, give the storage's support the request id."
)
_SERVER = (
    "The storage's own trouble, nothing to set here: see its status page (R2: "
    "https://www.cloudflarestatus.com), and give its support the request id."
)
_UNKNOWN = "The storage documents this code, and its support can look up the request id."
_SLOW = (
    "See which phase takes how long, on the way or in the storage; raise `timeout` if this is its usual pace."
)
_BY_CODE = {
    "AccessDenied": (
        "The keys are known but may not do this. On R2, give the API token Object Read & Write for this very "
        "bucket; a read-only token cannot PUT or DELETE. On AWS, GET of a missing key needs s3:ListBucket."
    ),
    "AuthorizationHeaderMalformed": "Check `region`: R2 takes auto, AWS the bucket's own region.",
    "ExpiredToken": "The session token has expired: renew it, or use keys that do not expire.",
    "InvalidAccessKeyId": (
        "The storage does not know this access key ID. On R2, check that it belongs to this account_id and "
        "jurisdiction, that its API token still exists, and that it is the ID (32 characters), not the "
        "secret."
    ),
    "InvalidToken": "Check `session_token`: R2's permanent keys have none.",
    "MethodNotAllowed": "The endpoint does not take this operation: check `endpoint` for a stray path.",
    "NoCredentials": (
        "Set access_key_id and secret_access_key (or their _file forms) for the target, or AWS_ACCESS_KEY_ID "
        "and AWS_SECRET_ACCESS_KEY in the environment."
    ),
    "NoSuchBucket": (
        "Check `bucket`, `endpoint` for a stray path, and on R2 that it lives in this account_id and "
        "jurisdiction: a bucket made in the EU is found at the EU endpoint only."
    ),
    "NoSuchKey": NO_S3,
    "NotEntitled": "The Cloudflare account has no R2 subscription.",
    "NotImplemented": (
        "The storage refused a feature of the request. R2 does not take x-amz-checksum-* headers and "
        "trailers: look for a proxy that adds headers."
    ),
    "ObjectLockedByBucketPolicy": "A bucket lock rule covers the probe's prefix: change one of them.",
    "RequestTimeTooSkewed": "Set this machine's clock by NTP: a signature is good for 15 minutes.",
    "RequestTimeout": _SLOW,
    "SignatureDoesNotMatch": (
        "The access key ID is known but the secret is not its secret: copy it again, mind a line end or a "
        "space. On R2 the secret is shown once, when the API token is made. A proxy that rewrites headers "
        "breaks signatures too."
    ),
    "SlowDown": "The storage asks for fewer requests: lengthen `interval`, or see who else uses the bucket.",
    "TooManyRequests": "R2 limits requests: lengthen `interval`, or see who else uses the bucket.",
    "Unauthorized": (
        "On R2, the API token is missing, expired or of another account. PutObject with checksum headers "
        "gets this misleading answer too."
    ),
}
_BY_STATUS = {
    401: _BY_CODE["Unauthorized"],
    403: (
        "The answer names no S3 error code (an answer to HEAD never does): see what GET or LIST of the same "
        "target says. Check key ID, secret, account_id and bucket, in this order."
    ),
    429: _BY_CODE["TooManyRequests"],
    501: _BY_CODE["NotImplemented"],
}

_BY_WORDS = {
    "proxy": "Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY in the environment.",
    "cannot connect": (
        "Check the address and port in `endpoint`, that the storage runs, and what stands between: a "
        "firewall or a proxy."
    ),
    "cannot resolve": "Check `endpoint`, or `account_id` and `jurisdiction`; then this machine's resolver.",
    "WRONG_VERSION_NUMBER": "The other side speaks no TLS: write http:// in `endpoint`, or another port.",
    "local issuer": "If the storage has an authority of its own, name it in `ca_file`.",
    "self-signed": "If the storage has an authority of its own, name it in `ca_file`.",
    "certificate": "Check the name in `endpoint`; one that has expired must be renewed by its owner.",
    "TLS": "Check that `endpoint` speaks TLS at this port, and what stands between.",
    "no complete answer": _SLOW,
    "connection lost": (
        "Something cuts connections: a proxy, a firewall or a load balancer on the way; or the storage "
        "restarts."
    ),
    "not valid HTTP": NO_S3,
    "unexpected": "This may be a defect of the exporter: please report it with this line.",
}


def hint_for_answer(status: int, error: S3Error) -> str:
    """What to check."""
    if 300 <= status < 400:
        places = [f"`region: {error.region}`"] if error.region else []
        places += [f"`endpoint: https://{error.endpoint}`"] if error.endpoint else []
        where = " or ".join(places) or "the bucket's own region and endpoint"
        return f"The bucket is served elsewhere, and a signed request cannot follow: set {where}."
    if error.code == "AuthorizationHeaderMalformed" and error.region:
        return f"The bucket is in another region: set `region: {error.region}`."
    if hint := hint_for_code(error.code) if error.code else _BY_STATUS.get(status, ""):
        return hint
    if status >= 500:
        return _SERVER
    return _UNKNOWN if error.code else NO_S3


def hint_for_code(code: str) -> str:
    """The same for an S3 error code alone."""
    return _BY_CODE.get(code, "")


def hint_for_connection(message: str) -> str:
    """The same for a request that got no answer, by the words of its message."""
    return next((hint for words, hint in _BY_WORDS.items() if words in message), "")
