"""The gRPC server itself: its port, certificates and limits, and reflection."""

from typing import TYPE_CHECKING, Any, cast

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from recguru.v1 import recommender_pb2_grpc as pb_grpc

from model.errors import BadSettingError
from server import address, service
from server.config import ServeSettings
from server.tls import Certificates, Renewal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def make_server(
    recommender: service.RecommenderService,
    settings: ServeSettings,
    *,
    interceptors: "Sequence[grpc.aio.ServerInterceptor[Any, Any]]",
    shared_port: bool,
) -> grpc.aio.Server:
    """Make a server of the service and of reflection that listens nowhere yet.

    Args:
        recommender: What answers.
        settings: Its limits.
        interceptors: What calls pass, the outermost first.
        shared_port: Whether other processes of ours will listen on its port too.
    """
    options = _options(settings, shared_port=shared_port)
    server = grpc.aio.server(interceptors=interceptors, options=options)
    pb_grpc.add_RecommenderServicer_to_server(recommender, server)
    _add_reflection(server)
    return server


def add_port(server: grpc.aio.Server, settings: ServeSettings, *, shared_port: bool) -> int:
    """Open the port of a server that has not started -> its number.

    Raises:
        BadSettingError: If it cannot be had, or the certificates cannot be used.
    """
    if not shared_port:  # else whoever started us holds it
        address.check_port(settings.host, settings.port)
    place = address.spelled(settings.host, settings.port)
    try:
        return _bind(server, place, settings)
    except RuntimeError:
        raise BadSettingError(f"cannot listen on {place}; see the log") from None


def _options(settings: ServeSettings, *, shared_port: bool) -> list[tuple[str, int]]:
    options = [
        # Unless it is meant, a second server would take half of our calls, silently.
        ("grpc.so_reuseport", int(shared_port)),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        # gRPC refuses what is beyond this with a vague UNAVAILABLE, now and then a little early:
        # the limit that callers meet is ours, and this one bounds what waits to get there.
        ("grpc.max_concurrent_streams", 2 * settings.max_connection_calls),
        # Between the two numbers a part of the newcomers is dropped, beyond the second all are.
        ("grpc.server.max_pending_requests", settings.max_backlog),
        ("grpc.server.max_pending_requests_hard_limit", 2 * settings.max_backlog),
    ]
    if settings.max_connection_age_s is not None:
        options.append(("grpc.max_connection_age_ms", round(1000 * settings.max_connection_age_s)))
    return options


def _bind(server: grpc.aio.Server, place: str, settings: ServeSettings) -> int:
    """Open the port, encrypted if certificates are named; they are renewed when their files are."""
    renewal = Renewal(settings.tls)  # first: what is renewed while it is read is read again
    certificates = Certificates.read(settings.tls)
    if certificates is None:
        return server.add_insecure_port(place)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        renewed = renewal.renewed()
        return None if renewed is None else _configuration(renewed)

    credentials = grpc.dynamic_ssl_server_credentials(
        _configuration(certificates),
        cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch),  # the stubs forget None
        require_client_authentication=certificates.client_ca is not None,
    )
    return server.add_secure_port(place, credentials)


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificates.key, certificates.certificate)], root_certificates=certificates.client_ca
    )


def _add_reflection(server: grpc.aio.Server) -> None:
    """Describe the services to clients that know no contract.

    The library has the `v1alpha` service only. `v1` has the same messages under another name, and
    some clients ask for nothing else.
    """
    names = (service.NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
    servicer: Any = reflection.aio.ReflectionServicer(names)  # type: ignore[attr-defined]  # stubs lack it
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    call = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    name = reflection.SERVICE_NAME.replace("v1alpha", "v1")
    handlers = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": call})
    server.add_generic_rpc_handlers((handlers,))
