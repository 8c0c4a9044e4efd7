"""What kind of failure an S3 answer speaks of, from its HTTP status and its error code.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList
https://developers.cloudflare.com/r2/api/error-codes/
"""

from exporter.outcome import Reason

_THROTTLING = {
    "SlowDown",
    "TooManyRequests",
    "TooManyRequestsException",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "BandwidthLimitExceeded",
}
_AUTHENTICATION = {
    "AccessDenied",
    "AuthorizationHeaderMalformed",
    "AuthorizationQueryParametersError",
    "ExpiredRequest",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "Unauthorized",
}


def reason_of(status: int, code: str) -> Reason:
    """The reason behind an answer that is no success; `code` is empty where the answer has none."""
    if status == 429 or code in _THROTTLING:
        return Reason.THROTTLED
    if status == 408 or code == "RequestTimeout":
        return Reason.TIMEOUT
    if status in (401, 403) or code in _AUTHENTICATION:
        return Reason.AUTH
    # NotImplemented speaks of the request: sending it again or later will not help.
    if status < 500 or status == 501:
        return Reason.CLIENT
    return Reason.SERVER
