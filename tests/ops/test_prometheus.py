"""Prometheus reads the alert rules and its configuration for Docker, and raises each alert when it should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from patience import PATIENCE_S
from prometheus_client import REGISTRY

from linguad.core.job import MissingReason
from linguad.errors import CloseReason
from linguad.metrics_page import shown

ROOT = Path(__file__).parents[2]
RULES = ROOT / "etc/prometheus/alerts.yml"
CASES = Path(__file__).parent / "alerts_test.yml"
LABEL = re.compile(r'(\w+)="([^"]*)"')


def promtool(*words: str | Path) -> str:
    """What promtool says; it must have nothing to complain of."""
    program = shutil.which("promtool")
    assert program is not None, "install the Debian package prometheus"
    done = subprocess.run(
        [program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def cases() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(CASES.read_text())["tests"]
    return found


def test_the_rules_can_be_read() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", RULES)


def test_the_configuration_for_docker_finds_its_rules(tmp_path: Path) -> None:
    docker = ROOT / "etc/docker"
    volumes = yaml.safe_load((docker / "compose.yaml").read_text())["services"]["prometheus"]["volumes"]
    for volume in volumes:
        source, target = volume.split(":")[:2]
        if source.startswith("."):
            place = tmp_path / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(docker / source, place)
    said = promtool("check", "config", tmp_path / "etc/prometheus/prometheus.yml")
    assert f"{len(rules())} rules found" in said


def test_each_alert_fires_when_it_should() -> None:
    promtool("test", "rules", CASES)


@pytest.mark.parametrize("alert", [rule["alert"] for rule in rules()])
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    checks = [one for case in cases() for one in case["alert_rule_test"] if one["alertname"] == alert]
    assert {bool(one.get("exp_alerts")) for one in checks} == {True, False}


def test_the_cases_have_only_series_that_linguad_has() -> None:
    labels = {one.name: set(one.labels) for one in shown()}
    bounds = {
        family.name: {sample.labels["le"] for sample in family.samples if "le" in sample.labels}
        for family in REGISTRY.collect()
    }
    for series in (one["series"] for case in cases() for one in case["input_series"]):
        name, _, rest = series.partition("{")
        given = dict(LABEL.findall(rest))
        del given["instance"]
        if name == "up":
            continue
        if name.endswith("_bucket"):
            name = name.removesuffix("_bucket")
            assert given.pop("le") in bounds[name], series
        assert given.keys() == labels[name], series


def test_alerts_ask_for_outcomes_and_reasons_that_there_are() -> None:
    known = {
        "outcome": {"completed", "hit", "miss", *MissingReason},
        "reason": {one.label for one in CloseReason},
    }
    found = re.findall(r'(outcome|reason)=~?"([^"]*)"', " ".join(rule["expr"] for rule in rules()))
    assert {label for label, _ in found} == set(known)
    for label, values in found:
        assert set(values.split("|")) <= known[label]
