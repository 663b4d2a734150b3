"""What lies in etc/ names only what there is: settings, commands, ports, paths and files of this version."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from linguad.cli import parser_of
from linguad.config import Config, load
from linguad.config.reading import PREFIX, SETTINGS

ETC = Path(__file__).parent.parent / "etc"
ROOT = ETC.parent
UNITS = sorted(ETC.glob("*.service")) + sorted(ETC.glob("*.socket"))
DOORS = {"scheduler": 5010, "gateway": 8081, "hub": 5000}
PROBES = {5010: {"/health", "/ready", "/metrics"}, 8081: {"/health"}, 5000: {"/health", "/health/ready"}}
GRACE_S = 35
"""How long whatever supervises linguad waits before it kills; more than linguad itself does."""


def unit(path: Path) -> dict[str, list[str]]:
    """`Section.Key` and all values that a unit file gives it."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(f"{section}.{key}", []).append(value)
    return found


def parse(words: list[str]) -> None:
    """These words are a command of linguad."""
    parser_of(words).parse_args(words)


def check_environment(env: Mapping[str, object]) -> None:
    """Every variable of linguad is a setting, and takes what it is given."""
    given = {}
    for name, value in env.items():
        if not name.startswith(PREFIX):
            continue
        table, _, key = name.removeprefix(PREFIX).lower().partition("__")
        assert key in SETTINGS.get(table, {}), name
        assert isinstance(value, str), f"{name} must be a text"
        given[name] = re.sub(r"\$\{?\w+\}?", "given", value)
    load(None, given)


def test_the_defaults_are_the_ports_that_the_files_name() -> None:
    config = Config()
    ports = {"scheduler": config.server.port, "gateway": config.gateway.port, "hub": config.hub.port}
    assert ports == DOORS
    assert config.server.drain_seconds < config.server.hard_stop_seconds < GRACE_S


@pytest.mark.parametrize("path", sorted(ETC.glob("*.service")), ids=lambda path: path.name)
def test_services(path: Path) -> None:
    given = unit(path)
    (start,) = given["Service.ExecStart"]
    program, *words = shlex.split(start)
    assert program.endswith("/bin/linguad")
    parse(words)
    assert given["Service.TimeoutStopSec"] == [str(GRACE_S)]
    assert given["Service.Type"] == ["notify"]
    assert int(given["Service.WatchdogSec"][0]) > 0
    assert int(given["Service.LimitNOFILE"][0]) >= 22_024, "what linguad doctor asks for by default"
    assert given["Service.StandardOutput"] == ["journal"]
    assert "Service.StateDirectory" in given
    assert "Service.RuntimeDirectory" in given
    assert given["Service.ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    check_environment(dict(line.split("=", 1) for line in given.get("Service.Environment", [])))
    for key in (
        "NoNewPrivileges",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectHome",
        "ProtectKernelTunables",
        "MemoryDenyWriteExecute",
        "RestrictNamespaces",
        "SystemCallFilter",
    ):
        assert f"Service.{key}" in given, key
    assert given["Service.CapabilityBoundingSet"] == [""]


def test_both_services_are_hardened_alike() -> None:
    def hardening(name: str) -> str:
        _, _, text = (ETC / name).read_text().partition("UMask=")
        return text

    assert hardening("linguad.service") == hardening("linguad@.service") != ""


@pytest.mark.parametrize("path", sorted(ETC.glob("*.socket")), ids=lambda path: path.name)
def test_sockets(path: Path) -> None:
    given = unit(path)
    (door,) = given["Socket.FileDescriptorName"]
    port = DOORS[door]
    assert given["Socket.ListenStream"] == [f"0.0.0.0:{port}", f"[::]:{port}"]
    assert given["Socket.BindIPv6Only"] == ["ipv6-only"]
    assert given["Socket.Service"] == ["linguad.service"]
    assert given["Socket.Backlog"] == [str(Config().server.backlog)]


def test_every_door_has_its_socket() -> None:
    assert {unit(path)["Socket.FileDescriptorName"][0] for path in ETC.glob("*.socket")} == set(DOORS)


def test_nginx_leads_to_the_doors() -> None:
    text = (ETC / "nginx/linguad.conf").read_text()
    assert {int(port) for port in re.findall(r"server 127\.0\.0\.1:(\d+)", text)} == set(DOORS.values())


def test_nginx_of_the_containers_differs_in_its_upstreams_only() -> None:
    def rest(path: str) -> str:
        text = (ETC / path).read_text()
        _, _, servers = text.partition("# No keepalive")
        return re.sub(r"upstream (\w+) \{.*?\}", r"\1", servers, flags=re.DOTALL)

    assert rest("docker/nginx.conf") == rest("nginx/linguad.conf") != ""


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ETC / "docker/compose.yaml").read_text())


class TestCompose:
    def test_settings_and_grace(self, compose: Any) -> None:
        instances = {name: one for name, one in compose["services"].items() if name.startswith("linguad")}
        assert len(instances) == 3
        for name, one in instances.items():
            check_environment(one["environment"])
            assert one["environment"]["LINGUAD_CLUSTER__INSTANCE_ID"] == name
            assert one["stop_grace_period"] == f"{GRACE_S}s"
            assert one["read_only"] is True
            parse(one.get("command", "serve").split())
        hubs = [one["environment"]["LINGUAD_HUB__ENABLED"] for one in instances.values()]
        assert sorted(hubs) == ["false", "false", "true"]

    def test_what_it_refers_to_is_there(self, compose: Any) -> None:
        services, volumes = compose["services"], set(compose["volumes"])
        for one in services.values():
            assert set(one.get("depends_on", [])) <= set(services)
            assert set(one.get("secrets", [])) <= set(compose["secrets"])
            for mount in one.get("volumes", []):
                source = mount.split(":")[0]
                assert source in volumes or source.startswith("$") or (ETC / "docker" / source).is_file()
        variables = set(re.findall(r"\$\{(\w+)\}", (ETC / "docker/compose.yaml").read_text()))
        given = (ETC / "docker/example.env").read_text()
        assert variables == set(re.findall(r"^(\w+)=", given, re.MULTILINE))

    def test_its_parts_find_each_other(self, compose: Any) -> None:
        services = set(compose["services"])
        targets = set(re.findall(r"server ([\w-]+):\d+;", (ETC / "docker/nginx.conf").read_text()))
        scraped = yaml.safe_load((ETC / "docker/prometheus.yml").read_text())["scrape_configs"]
        (job,) = scraped
        assert job["metrics_path"] in PROBES[5010]
        for target in job["static_configs"][0]["targets"]:
            name, _, port = target.partition(":")
            targets.add(name)
            assert int(port) == 5010
        source = yaml.safe_load((ETC / "docker/grafana-source.yaml").read_text())
        targets.add(re.sub(r"^http://([\w-]+):\d+$", r"\1", source["datasources"][0]["url"]))
        assert targets <= services


def test_the_dockerfile() -> None:
    text = (ETC / "docker/Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    said: dict[str, list[str]] = {}
    for instruction, rest in lines:
        said.setdefault(instruction, []).append(rest)
    for copied in said["COPY"]:
        if not copied.startswith("--from"):
            for source in copied.split()[:-1]:
                assert (ROOT / source).exists(), source
    check_environment(dict(pair.split("=", 1) for pair in said["ENV"][0].split()))
    assert {int(port) for port in said["EXPOSE"][0].split()} == set(DOORS.values())
    assert json.loads(said["ENTRYPOINT"][0]) == ["linguad"]
    parse(json.loads(said["CMD"][0]))
    assert said["USER"] != ["root"]
    (probe,) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", said["HEALTHCHECK"][0])
    assert probe[1] in PROBES[int(probe[0])]


def documents() -> Iterator[Any]:
    for path in sorted((ETC / "kubernetes").glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text())


class TestKubernetes:
    def test_settings_commands_and_probes(self) -> None:
        pods = [one for one in documents() if one["kind"] in ("StatefulSet", "Deployment")]
        assert {one["metadata"]["name"] for one in pods} == {"linguad", "linguad-hub"}
        for one in pods:
            pod = one["spec"]["template"]["spec"]
            assert pod["terminationGracePeriodSeconds"] == GRACE_S
            (container,) = pod["containers"]
            parse(container["args"])
            secrets = {"LINGUAD_STORE__URL": "postgresql://given/given"}
            env = {e["name"]: e.get("value", secrets.get(e["name"], "given")) for e in container["env"]}
            check_environment(env)
            open_ports = {port["containerPort"] for port in container["ports"]}
            assert open_ports <= set(DOORS.values())
            for probe in ("livenessProbe", "readinessProbe"):
                asked = container[probe]["httpGet"]
                assert asked["port"] in open_ports
                assert asked["path"] in PROBES[asked["port"]]
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            volumes = {volume["name"] for volume in pod["volumes"]}
            volumes |= {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes

    def test_instances_are_told_apart_by_their_pods(self) -> None:
        (pods,) = [one for one in documents() if one["kind"] == "StatefulSet"]
        env = {e["name"]: e for e in pods["spec"]["template"]["spec"]["containers"][0]["env"]}
        assert env["LINGUAD_CLUSTER__INSTANCE_ID"]["value"] == "${POD_NAME}"
        assert env["POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
        assert pods["spec"]["replicas"] == 3
        (budget,) = [one for one in documents() if one["kind"] == "PodDisruptionBudget"]
        assert budget["spec"]["minAvailable"] == 2

    def test_the_file_in_the_map_can_be_used(self, tmp_path: Path) -> None:
        (settings,) = [one for one in documents() if one["kind"] == "ConfigMap"]
        (tmp_path / "linguad.toml").write_text(settings["data"]["linguad.toml"])
        config = load(tmp_path / "linguad.toml", {})
        (pods,) = [one for one in documents() if one["kind"] == "StatefulSet"]
        mounts = pods["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
        places = [mount["mountPath"] for mount in mounts]
        assert str(Path(config.gateway.pepper_file).parent) in places
        assert str(config.state_dir({})) in places or config.state_dir(
            {"STATE_DIRECTORY": "/var/lib/linguad"}
        )

    def test_secrets_are_those_that_the_first_lines_make(self) -> None:
        text = (ETC / "kubernetes/linguad.yaml").read_text()
        made = set(re.findall(r"--from-literal=([\w-]+)=", text))
        used = set(re.findall(r"secretKeyRef: \{name: linguad-secrets, key: ([\w-]+)\}", text))
        assert used | {"pepper"} == made

    def test_services_choose_their_pods(self) -> None:
        labels = {
            one["spec"]["template"]["metadata"]["labels"]["app"]
            for one in documents()
            if one["kind"] in ("StatefulSet", "Deployment")
        }
        for one in documents():
            if one["kind"] == "Service":
                assert one["spec"]["selector"]["app"] in labels
