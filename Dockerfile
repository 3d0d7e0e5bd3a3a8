# An image of `recguru serve` for CPUs; docs/operations.md says how to build and run it.

FROM python:3.11-slim AS build
# Given to pip where they are named with --build-arg: other package indexes than pip's own.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN python -m venv /opt/recguru
ENV PATH=/opt/recguru/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
# First what seldom changes: torch is most of the image.
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt numpy torch
# The version in constraints.txt has builds with and without CUDA, by gigabytes apart.
RUN ["python", "-c", "import sys, torch; sys.exit(torch.version.cuda and f'error: {torch.__version__} is a CUDA build; give --build-arg PIP_EXTRA_INDEX_URL=ADDRESS of an index that has the +cpu builds of torch')"]
COPY . ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt '.[cpu]'
# Not `recguru doctor`: it imports torch and FAISS, which takes seconds and 250 MB, and a check runs
# every few seconds beside the server. This takes 0.3 s and 40 MB. Kubernetes' own grpc probe needs
# nothing in the image, but speaks no TLS in most versions: the probes of server/deploy/kubernetes.yaml
# call this file too.
COPY <<"PYTHON" /opt/recguru/health.py
"""health.py HOST:PORT [CERTIFICATE NAME]: leave with 0 if the server there says SERVING, else 1.

CERTIFICATE is the PEM file of the server's certificate, which has NAME among its names.
"""

import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

place, *tls = sys.argv[1:]
if tls:
    trusted = grpc.ssl_channel_credentials(Path(tls[0]).read_bytes())
    channel = grpc.secure_channel(place, trusted, [("grpc.ssl_target_name_override", tls[1])])
else:
    channel = grpc.insecure_channel(place)
try:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=3)
except grpc.RpcError as error:
    sys.exit(f"{place}: {error.code().name}: {error.details()}")
status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
sys.exit(None if status == "SERVING" else f"{place}: {status}")
PYTHON

FROM python:3.11-slim
COPY --from=build /opt/recguru /opt/recguru
# HOME is where libraries keep what they keep: the root file system may be read-only, /tmp may not.
ENV PATH=/opt/recguru/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
# A number, so that Kubernetes can see that it is not root; the image needs no name for it.
USER 10001:10001
EXPOSE 50051 9100
STOPSIGNAL SIGTERM
# Without TLS; where the server has it, say docker run --health-cmd with CERTIFICATE and NAME.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --start-interval=2s --retries=3 \
    CMD ["python", "/opt/recguru/health.py", "127.0.0.1:50051"]
ENTRYPOINT ["recguru", "serve"]
CMD ["--config", "/etc/recguru/serve.toml"]
