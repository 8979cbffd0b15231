"""The connection to Kubeflow Pipelines: its client, with limits of time, and its errors with what to do."""

import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

SECONDS = (10, 60)  # to connect, and without a byte
SHOWN = 300  # characters of an answer
ADVICE = {401: "log in", 403: "ask for the right to use it", 404: "is the host that of Kubeflow Pipelines?"}


def connect(host: str, namespace: str) -> Any:
    """A kfp.Client; an ApiException says what the service answers where it refuses."""
    import kfp

    class Client(kfp.Client):  # type: ignore[misc]  # kfp is untyped
        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            """Asked once, when it is made: kfp's own repeats for 25 seconds, and does not say what was answered."""
            _ask_carefully(self._healthz_api.api_client.rest_client)
            return self._healthz_api.healthz_service_get_healthz()

    made = Client(host=host, namespace=namespace)
    _ask_carefully(made._healthz_api.api_client.rest_client)  # where it has a namespace it did not ask
    return made


def _ask_carefully(rest: Any) -> None:
    """Let requests end in time, and refuse answers that are no JSON object: the client takes a page for an empty list.

    It has one object for all requests of a connection, whose `request` is put in place here.
    """
    from kfp_server_api.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    plain = type(rest).request

    def request(method: str, url: str, **given: Any) -> Any:
        try:
            answer = plain(rest, method, url, **given | {"_request_timeout": SECONDS})
            is_object = isinstance(json.loads(answer.data), dict)
        except ValueError:
            is_object = False
        except ApiException as error:
            if error.body is None:  # of TLS, where the client stumbles over it
                raise HTTPError(error.reason) from error
            raise
        if not is_object:
            raise HTTPError(f"what answers is another program: {_shorten(answer.data)}")
        return answer

    rest.request = request


@contextmanager
def naming(host: str) -> Iterator[None]:
    """Let errors of the service name it, and say what it answered; what the client prints is for notebooks."""
    from kfp_server_api.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore", category=FutureWarning):
            yield
    except ApiException as error:
        advice = f"; {ADVICE[error.status]}" if error.status in ADVICE else ""
        said = _shorten(error.body or error.reason)
        raise OSError(f"{host}: Kubeflow Pipelines answers {error.status} ({said}){advice}") from error
    except HTTPError as error:
        raise OSError(f"{host}: not reached ({error}); is the host right, and is a port forwarded to it?") from error


def _shorten(said: bytes | str | None) -> str:
    text = (said.decode(errors="replace") if isinstance(said, bytes) else said) or "nothing"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
