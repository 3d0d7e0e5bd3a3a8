"""The image, the manifests and the dashboard agree with the server and with each other."""

import asyncio
import json
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.settings import load_settings
from server import run, service, supervisor
from server.config import ServeSettings
from server.metrics import Metrics, WorkerMetrics
from tests.authority import Authority
from tests.server.running import WAIT_S, serving

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
MANIFESTS = (ROOT / "server/deploy/kubernetes.yaml").read_text(encoding="utf-8")
DASHBOARD = json.loads((ROOT / "server/deploy/grafana.json").read_text(encoding="utf-8"))

HEALTH_CHECK = re.findall(r'(?ms)^COPY <<"PYTHON" (\S+)\n(.*?)^PYTHON$', DOCKERFILE)
"""Its place in the image, and its text."""

OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that a server does not write itself."""


@pytest.fixture(scope="module")
def manifests() -> Mapping[str, Any]:
    """Read the manifests -> by their kind."""
    found = list(yaml.safe_load_all(MANIFESTS))
    kinds = {manifest["kind"]: manifest for manifest in found}
    assert len(kinds) == len(found)
    return kinds


@pytest.fixture(scope="module")
def pod(manifests: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(manifests["Deployment"]["spec"]["template"]["spec"])


@pytest.fixture(scope="module")
def container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    (only,) = pod["containers"]
    return dict(only)


@pytest.fixture(scope="module")
def config(manifests: Mapping[str, Any]) -> ServeSettings:
    """Read the ConfigMap as `recguru serve` does, with an environment that sets nothing."""
    toml = manifests["ConfigMap"]["data"]["serve.toml"]
    return ServeSettings.model_validate(tomllib.loads(toml)["serve"])


@pytest.fixture(scope="module")
def health(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the image's health check."""
    ((place, text),) = HEALTH_CHECK
    path = tmp_path_factory.mktemp("image") / Path(place).name
    path.write_text(text, encoding="utf-8")
    return path


def instruction(name: str) -> str:
    """Give what an instruction says in the last stage of the Dockerfile, where it stands once."""
    stage = DOCKERFILE.rpartition("\nFROM ")[2].replace("\\\n", " ")
    (found,) = re.findall(rf"(?m)^{name} +(.*)$", stage)
    return str(found)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """List what servers expose: names of series, and the name of the metric of each."""
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    workers = WorkerMetrics(tmp_path_factory.mktemp("metrics"))
    return {
        family.name + suffix: family.name
        for registry in (Metrics().registry, workers.registry)
        for family in registry.collect()
        for suffix in suffixes[family.type]
    }


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def selected() -> Iterator[tuple[str, str]]:
    """Give every name of series that the dashboard asks for, with its matchers."""
    queries = [
        variable["query"]["query"]
        for variable in DASHBOARD["templating"]["list"]
        if variable["type"] == "query"
    ]
    for text in (*expressions(), *queries):
        yield from re.findall(r"\b((?:recguru|process|python)_\w+)(?:\{([^}]*)\})?", text)


def test_the_dashboard_asks_for_series_that_a_server_has(series: Mapping[str, str]) -> None:
    asked = {name for name, _ in selected()}
    assert len(asked) > 10
    assert asked <= series.keys()


def test_the_dashboard_knows_the_labels_of_its_series() -> None:
    labels: dict[str, set[str]] = defaultdict(lambda: OF_PROMETHEUS)
    for collector, names in Metrics().registry._collector_to_names.items():
        for name in names:
            labels[name] = OF_PROMETHEUS | {*collector._labelnames}  # type: ignore[attr-defined]
    for name, matchers in selected():
        assert set(re.findall(r"(\w+) *=", matchers)) <= labels[name], name
    for expression in expressions():
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expression))))
        asked = [labels[name] for name in re.findall(r"recguru_\w+", expression)]
        assert grouped <= set.intersection(*asked), expression


def test_every_metric_is_on_the_dashboard_or_explained(series: Mapping[str, str]) -> None:
    shown = {series[name] for name, _ in selected()}
    explained = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    hidden = [names for names in series.items() if names[1] not in shown]
    assert not [names for names in hidden if not any(f"`{name}`" in explained for name in names)]


def test_every_panel_has_a_unit_and_says_what_to_do() -> None:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    for panel in panels:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert re.search(r"[a-z]{3,}.*[.:;] .*[a-z]{3,}.*\.$", panel["description"]), panel["title"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"]["uid"] == "${datasource}"
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_config_map_holds_settings_of_the_server(
    manifests: Mapping[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(manifests["ConfigMap"]["data"]["serve.toml"], encoding="utf-8")
    settings = load_settings(ServeSettings, table="serve", config=path)
    assert not settings.insecure
    assert settings.tls.certificate is not None
    assert settings.tokens.wanted
    default = ServeSettings()
    assert (settings.port, settings.drain_s) == (default.port, default.drain_s)


def test_the_ports_are_the_same_everywhere(
    manifests: Mapping[str, Any], container: Mapping[str, Any], config: ServeSettings
) -> None:
    ports = {"grpc": config.port, "metrics": config.metrics_port}
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == ports
    assert [int(port) for port in instruction("EXPOSE").split()] == list(ports.values())
    (served,) = manifests["Service"]["spec"]["ports"]
    assert (served["port"], ports[served["targetPort"]]) == (config.port, config.port)
    assert manifests["Service"]["spec"]["clusterIP"] == "None"
    let_in = [rule["ports"] for rule in manifests["NetworkPolicy"]["spec"]["ingress"]]
    assert [port["port"] for (port,) in let_in] == list(ports.values())
    annotations = manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(config.metrics_port)
    assert f"dns:///{manifests['Service']['metadata']['name']}:{config.port}" in MANIFESTS
    assert f'"serviceName": "{service.NAME}"' in MANIFESTS


def test_the_probes_run_what_is_in_the_image(
    manifests: Mapping[str, Any], container: Mapping[str, Any], config: ServeSettings
) -> None:
    ((script, _),) = HEALTH_CHECK
    own = ["python", script, f"127.0.0.1:{config.port}"]
    assert json.loads(instruction("HEALTHCHECK").partition("CMD ")[2]) == own
    name = manifests["Service"]["metadata"]["name"]
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = container[kind]["exec"]["command"]
        assert command == [*own, str(config.tls.certificate), name], kind
        assert container[kind]["timeoutSeconds"] > 3, "the script gives a call 3 s"


def test_the_process_is_nobody_and_writes_nowhere_but_in_tmp(
    pod: Mapping[str, Any], container: Mapping[str, Any], config: ServeSettings
) -> None:
    user, group = map(int, instruction("USER").split(":"))
    assert min(user, group) > 0
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in mounts.values()} == volumes.keys()
    assert [path for path, mount in mounts.items() if not mount.get("readOnly")] == ["/tmp"]  # noqa: S108  # in the pod
    assert "emptyDir" in volumes[mounts["/tmp"]["name"]]  # noqa: S108
    assert "persistentVolumeClaim" in volumes[mounts[str(config.releases)]["name"]]
    for file in (config.tls.certificate, config.tls.key):
        assert file is not None
        assert "secret" in volumes[mounts[str(file.parent)]["name"]]
    given = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
    assert given.keys() == {"--config"}
    assert mounts[given["--config"]]["name"] == "config"
    assert json.loads(instruction("CMD")) == container["args"]


def test_a_pod_has_the_time_to_drain(
    pod: Mapping[str, Any], container: Mapping[str, Any], config: ServeSettings
) -> None:
    before_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed_s = before_s + run._NOTICE_S + config.drain_s + supervisor._GRACE_S
    assert needed_s < pod["terminationGracePeriodSeconds"] <= needed_s + 10
    assert f"{needed_s:g} s" in MANIFESTS
    assert instruction("STOPSIGNAL") == "SIGTERM"
    assert json.loads(instruction("ENTRYPOINT")) == ["recguru", "serve"]


def test_the_manifests_speak_of_the_same_pods(manifests: Mapping[str, Any]) -> None:
    deployment = manifests["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    scaler = manifests["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaler["minReplicas"] >= 2
    assert "replicas" not in deployment["spec"], "every apply would undo the autoscaler"
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    volumes = {v["name"]: v for v in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["releases"]["persistentVolumeClaim"]["claimName"] == "recguru-releases"
    names = {manifest["metadata"]["name"] for manifest in manifests.values()}
    assert names == {volumes["config"]["configMap"]["name"], "recguru-releases"}


def test_the_image_is_built_from_what_the_package_is_made_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    setuptools = project["tool"]["setuptools"]
    needed = {f"{name}.py" for name in setuptools["py-modules"]}
    needed |= {name.rstrip("*") for name in setuptools["packages"]["find"]["include"]} - {"recguru"}
    needed |= set(setuptools["packages"]["find"]["where"]) - {"."}
    needed |= {"pyproject.toml", "constraints.txt", project["project"]["readme"]}
    needed |= set(project["project"]["license-files"])
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == needed
    assert f"image: recguru:{project['project']['version']}\n" in MANIFESTS


async def test_the_health_check_tells_a_server_that_serves(releases: Path, health: Path) -> None:
    async with serving(releases) as running:
        place = f"127.0.0.1:{running.server.port}"
        assert await checked(health, place) == (0, "")
        running.server._health.drain()
        assert await checked(health, place) == (1, f"{place}: NOT_SERVING\n")
    code, said = await checked(health, place)
    assert code == 1
    assert f"{place}: UNAVAILABLE: " in said


async def test_the_probes_find_a_server_with_tls_and_tokens_ready(
    releases: Path,
    health: Path,
    tmp_path: Path,
    config: ServeSettings,
    container: Mapping[str, Any],
) -> None:
    *_, name = container["readinessProbe"]["exec"]["command"]
    certificate, key = Authority.make(tmp_path / "tls").sign(name)
    tls = {"certificate": certificate, "key": key}
    tokens = config.tokens.model_dump()
    async with serving(releases, tls=tls, tokens=tokens) as running:
        place = f"127.0.0.1:{running.server.port}"
        assert await checked(health, place, certificate, name) == (0, "")
        assert (await checked(health, place, certificate, "other"))[0] == 1
        assert (await checked(health, place))[0] == 1


async def checked(health: Path, *arguments: object) -> tuple[int | None, str]:
    """Run the image's health check -> exit code, what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, health, *map(str, arguments), stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), WAIT_S)
    return process.returncode, said.decode()


def test_every_setting_is_in_the_table_of_settings() -> None:
    text = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    table = text[text.index("| setting | default |") :]
    named = {name for row in table.splitlines() for name in re.findall("`([a-z_.]+)`", row[:80])}
    fields = set(ServeSettings.model_fields)
    for name in ("tls", "tokens", "requests", "queue"):
        fields.remove(name)
        part = type(getattr(ServeSettings(), name))
        fields |= {f"{name}.{field}" for field in part.model_fields}
    assert fields - named == set()


def test_every_table_of_the_operators_pages_has_its_head() -> None:
    for page in ("docs/serving.md", "docs/operations.md"):
        lines = ["", *(ROOT / page).read_text(encoding="utf-8").splitlines(), ""]
        for before, row, after in zip(lines, lines[1:], lines[2:], strict=False):
            if row.startswith("|") and not before.startswith("|"):
                assert re.fullmatch(r"\|(-+\|)+", after), f"{page}: {row}"
