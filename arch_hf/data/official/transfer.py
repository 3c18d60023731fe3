"""HTTP as a download needs it: which faults may pass, and what a response says about its file (RFC 9110)."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import requests
import urllib3

from arch_hf.errors import UserError

TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}


class Transient(Exception):
    """A fault that may pass: worth another attempt, after `wait` seconds where that is known."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


@contextmanager
def network_faults(what: str, host: str, by_hand: str) -> Iterator[None]:
    """Sort what requests and urllib3 raise into Transient and, where no repetition can help, UserError.

    `what` is the file's name, `by_hand` how to do without this download.
    """
    try:
        yield
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
        match = re.search(r"certificate verify failed: ([^(\"]+)", str(error))
        if not match:
            raise Transient("the TLS connection failed") from None
        raise UserError(
            f"{what}: the TLS certificate of {host} is not valid ({match[1].strip()}), so nothing was taken from it: "
            "check this computer's clock and, behind a company's proxy, REQUESTS_CA_BUNDLE; "
            f"if the host is at fault, try later, {by_hand}"
        ) from None
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise UserError(f"{what}: {host} leads to an address that is not http ({error}); {by_hand}") from None
    except requests.exceptions.TooManyRedirects:
        raise UserError(f"{what}: {host} redirects in circles; {by_hand}") from None
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
        raise Transient("no answer in time") from None
    except requests.exceptions.ProxyError:
        raise Transient("the proxy does not answer") from None
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        cause = getattr(error.args[0], "reason", None) if error.args else None
        if isinstance(cause, urllib3.exceptions.NameResolutionError):
            raise Transient("its name is not known here, or this computer is offline") from None
        refused = isinstance(cause, urllib3.exceptions.NewConnectionError)
        raise Transient("it takes no connection" if refused else "the connection dropped") from None


def validator(response: requests.Response) -> str | None:
    """What tells this version of a file from any other, byte for byte: a strong ETag, else the date of its last change."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def content_length(response: requests.Response) -> int | None:
    """The length of the body in bytes, where the server states it."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and not is_chunked(response) else None


def is_chunked(response: requests.Response) -> bool:
    """Whether the body comes in chunks, of which the last says that it is the last."""
    return "chunked" in response.headers.get("Transfer-Encoding", "").lower()


def content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and whole length in a 206 response, each None where it is not stated."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not match:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def retry_after(response: requests.Response) -> float | None:
    """The seconds that the server asks to wait, which it states as a number or as a date."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
