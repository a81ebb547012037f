"""Serve's configuration file and KubeRay's manifest: they ask for what there is, in the shapes that are asked for."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from stt.cli import COMMANDS
from stt.cli.parser import build
from stt.cluster.fronts import read_fronts
from stt.cluster.spec import FRONTS_APPLICATION, EngineSpec, read_spec

ROOT = Path(__file__).parents[2]
SERVE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/ray/stt.yaml").read_text())
ALL: dict[str, Any] = yaml.safe_load((ROOT / "deploy/ray/all.yaml").read_text())
SERVICE, FRONTS = yaml.safe_load_all((ROOT / "deploy/ray/kuberay.yaml").read_text())
SCHEMA = Draft202012Validator(json.loads((ROOT / "tests/data/kuberay.json").read_text()))
INSIDE: dict[str, Any] = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])


def groups() -> dict[str, Any]:
    return {group["groupName"]: group for group in SERVICE["spec"]["rayClusterConfig"]["workerGroupSpecs"]}


def test_the_manifest_has_the_shape_that_kuberay_asks_for():
    SCHEMA.validate(SERVICE)


@pytest.mark.parametrize(
    "path",
    ["spec.rayClusterConfig.headGroupSpec.template", "spec.rayClusterConfig.workerGroupSpecs.0.groupName"],
)
def test_a_manifest_without_what_is_required_is_told(path: str):
    broken = copy.deepcopy(SERVICE)
    *parents, last = path.split(".")
    at: Any = broken
    for name in parents:
        at = at[int(name) if name.isdecimal() else name]
    del at[last]
    with pytest.raises(ValidationError):
        SCHEMA.validate(broken)
    at[last + "s"] = {}
    with pytest.raises(ValidationError):
        SCHEMA.validate(broken)


@pytest.mark.parametrize("config", [SERVE, INSIDE], ids=["stt.yaml", "kuberay.yaml"])
def test_serve_is_asked_for_engines_that_can_be(config: dict[str, Any]):
    assert config["proxy_location"] == "Disabled"
    for application in config["applications"]:
        spec = read_spec(application["args"])
        assert application["name"] == spec.application
        assert application["import_path"] == "stt.cluster.ray_serve:build"
        assert application["route_prefix"] is None


def test_the_file_for_everything_asks_for_an_engine_and_for_fronts_that_are_reached():
    engine, fronts = ALL["applications"]
    assert (engine["name"], engine["route_prefix"]) == (read_spec(engine["args"]).application, None)
    assert (fronts["name"], fronts["route_prefix"]) == (FRONTS_APPLICATION, "/")
    assert fronts["import_path"] == "stt.cluster.ray_fronts:build"
    assert read_fronts(fronts["args"]).api_key_file  # it listens to all
    assert ALL["proxy_location"] == "EveryNode"
    assert ALL["http_options"] == {"host": "0.0.0.0", "port": 15751}


def test_a_replica_fits_on_a_node_and_all_of_them_on_all():
    spec: EngineSpec = read_spec(INSIDE["applications"][0]["args"])
    engines = groups()["engines"]
    [container] = engines["template"]["spec"]["containers"]
    assert spec.gpus <= float(container["resources"]["limits"]["nvidia.com/gpu"])
    assert spec.cpus <= float(container["resources"]["limits"]["cpu"])
    assert engines["maxReplicas"] >= spec.most * spec.gpus
    head = SERVICE["spec"]["rayClusterConfig"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == groups()["fronts"]["rayStartParams"]["num-cpus"] == "0"


def test_fronts_are_run_by_a_command_that_there_is_and_found_by_their_service():
    fronts = groups()["fronts"]["template"]
    [front] = [c for c in fronts["spec"]["containers"] if c["name"] == "front"]
    parser, _ = build(COMMANDS, "")
    assert parser.parse_args(front["command"][1:]).cluster == ["auto"]
    assert FRONTS["spec"]["selector"] == fronts["metadata"]["labels"]
    assert FRONTS["spec"]["ports"][0]["targetPort"] == front["ports"][0]["containerPort"] == 15751
    mounted = {mount["name"] for c in fronts["spec"]["containers"] for mount in c.get("volumeMounts", ())}
    assert mounted == {volume["name"] for volume in fronts["spec"]["volumes"]}


def test_one_version_of_ray_is_named():
    [image] = re.findall(r"ray\[serve\]==(\S+)'", (ROOT / "deploy/ray/Containerfile").read_text())
    [tried] = re.findall(r"^ray==(\S+)", (ROOT / "packaging/constraints.txt").read_text(), re.MULTILINE)
    assert image == tried == SERVICE["spec"]["rayClusterConfig"]["rayVersion"]
