"""The connection to Vertex AI: its client's services, pages of what they list, and their errors with what to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 60.0  # for one request


def connect(client: Any, region: str, endpoint: str) -> Any:
    """A service of google.cloud.aiplatform_v1; an endpoint of http:// is asked without credentials."""
    from google.auth.credentials import AnonymousCredentials

    host = endpoint or f"{region}-aiplatform.googleapis.com"
    credentials = {"credentials": AnonymousCredentials()} if host.startswith("http://") else {}
    return client(transport="rest", client_options={"api_endpoint": host}, **credentials)


def list_pages(ask: Callable[..., Any], entries: str, where: str) -> Iterator[Any]:
    """The `entries` of all pages that `ask` leads to; each page is asked for when it is come to."""
    with naming(where):
        pages = iter(ask(timeout=SECONDS, retry=retry_reading()).pages)
    while True:
        with naming(where):
            page = next(pages, None)
        if page is None:
            return
        yield from getattr(page, entries)


def retry_reading() -> Any:
    """Of what only reads, while the service is overloaded."""
    from google.api_core import exceptions
    from google.api_core.retry import Retry, if_exception_type

    passing = if_exception_type(
        exceptions.ServiceUnavailable, exceptions.TooManyRequests, exceptions.BadGateway, exceptions.GatewayTimeout
    )
    return Retry(predicate=passing, initial=0.5, timeout=SECONDS)


@contextmanager
def naming(where: str, what: str = "") -> Iterator[None]:
    """Let errors of the service name it, and say what it answered: OSError, FileNotFoundError, FileExistsError.

    `what` is the run or the schedule that is asked for.
    """
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError
    from google.protobuf.json_format import ParseError
    from requests.exceptions import RequestException

    try:
        yield
    except exceptions.NotFound as error:
        raise FileNotFoundError(f"{where}: {what or 'what was asked for'} is not there ({error.message})") from error
    except exceptions.Conflict as error:
        raise FileExistsError(f"{where}: {what} is there already; give another name ({error.message})") from error
    except exceptions.GoogleAPICallError as error:
        raise OSError(f"{where}: Vertex AI answers {error.code} ({error.message})") from error
    except exceptions.RetryError as error:
        raise OSError(f"{where}: Vertex AI does not answer ({error.cause})") from error
    except ParseError as error:
        raise OSError(f"{where}: no answer of Vertex AI's ({error}); is the endpoint right?") from error
    except RequestException as error:
        raise OSError(f"{where}: not reached ({error}); is the region right?") from error
    except GoogleAuthError as error:
        raise OSError(
            f"{where}: no credentials that Google takes ({error}); `gcloud auth application-default login` makes some"
        ) from error
