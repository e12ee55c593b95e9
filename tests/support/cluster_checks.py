"""What the files in clusters/ must fulfil: each check gives the faults it finds, as sentences.

Ray's own schema leaves `node_config` open and KubeRay's leaves unknown keys to be dropped in
silence: a misspelt setting would pass both. So the providers' own models are asked, too.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from paths import ROOT

CLUSTERS = ROOT / "clusters"
CRDS = ROOT.parent / "shared/data/kuberay"

TOKEN_FILE = "~/.ray/auth_token"  # noqa: S105 - where it lies, not what it is
SECRETS = {
    "an AWS key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a token": r"RAY_AUTH_TOKEN\s*[=:]\s*[\"']?(?!\$)[\w-]{8,}",
    "a random string": r"\b([0-9a-f]{32,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\b",
    "a password": r"(?i)\bpassword\s*[=:]\s*[\"']?(?!\$)\w+",
}


def secrets(text: str) -> list[str]:
    """Whatever looks like a secret."""
    return [f"holds {what}" for what, pattern in SECRETS.items() if re.search(pattern, text)]


def size(text: str) -> int:
    """Bytes of 4g, 2Gi, 2000000000."""
    number, unit = re.fullmatch(r"(\d+)([kmgKMG]i?)?", text).groups()
    return int(number) * {"k": 2**10, "m": 2**20, "g": 2**30}.get((unit or "")[:1].lower(), 1)


# --- Ray's cluster launcher --------------------------------------------------------------


def launcher_faults(config: dict[str, Any]) -> list[str]:
    """All that is wrong with a file for `ray up`."""
    return list(_schema_faults(config)) or [
        *_node_faults(config),
        *_scaling_faults(config),
        *_container_faults(config),
        *_start_faults(config),
    ]


def _schema_faults(config: dict[str, Any]) -> Iterator[str]:
    import ray.autoscaler
    from ray.autoscaler._private.util import prepare_config, validate_config

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    try:
        jsonschema.validate(config, schema)
        validate_config(prepare_config(copy.deepcopy(config)))
    except Exception as refusal:  # noqa: BLE001 - whatever Ray says is the fault
        yield f"Ray refuses it: {str(refusal).splitlines()[0] if str(refusal) else refusal!r}"


def workers_of(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The node types that are not the head's."""
    types = config.get("available_node_types", {})
    return {name: node for name, node in types.items() if name != config.get("head_node_type")}


def _node_faults(config: dict[str, Any]) -> Iterator[str]:
    provider = config["provider"]["type"]
    if provider == "local":
        if set(config["provider"]) - {"type", "head_ip", "worker_ips", "external_head_ip"}:
            yield "unknown setting of the provider"
        if config["provider"]["head_ip"] in config["provider"]["worker_ips"]:
            yield "the head is among the workers"
        return
    types = config["available_node_types"]
    head = types[config["head_node_type"]]
    if head["resources"].get("CPU") != 0:
        yield "the head takes work"
    model, is_spot, cores = PROVIDERS[provider]
    for name, node in types.items():
        yield from (f"{name}: {fault}" for fault in model(node["node_config"]))
    if is_spot(head["node_config"]):
        yield "the head may be taken away"
    for name, node in workers_of(config).items():
        if not is_spot(node["node_config"]):
            yield f"{name} is not a spot machine"
        if node["resources"].get("CPU") != cores(node["node_config"]):
            yield f"{name}: CPU differs from the machine's"


def _scaling_faults(config: dict[str, Any]) -> Iterator[str]:
    if config["provider"]["type"] == "local":
        if "available_node_types" in config:
            yield "machines of one's own have no types"
        return
    workers = workers_of(config)
    if not workers:
        yield "no worker type"
    for name, node in workers.items():
        low, high = node.get("min_workers"), node.get("max_workers")
        if low is None or high is None or not 0 <= low <= high or high < 1:
            yield f"{name}: min_workers and max_workers do not make a range"
        elif high > config["max_workers"]:
            yield f"{name}: max_workers is above the cluster's"
    if config.get("max_workers", 0) > sum(node.get("max_workers", 0) for node in workers.values()):
        yield "the cluster's max_workers cannot be reached"
    if not 0 < config.get("idle_timeout_minutes", 0) <= 30:
        yield "idle workers stay"
    if config["provider"].get("cache_stopped_nodes") is not False:
        yield "stopped machines are kept"


def _container_faults(config: dict[str, Any]) -> Iterator[str]:
    docker = config.get("docker", {})
    options = docker.get("run_options", [])
    if "--env=RAY_AUTH_MODE=token" not in options:
        yield "tokens are off"
    if config.get("file_mounts", {}).get(TOKEN_FILE) != TOKEN_FILE:
        yield "the token does not reach the nodes"
    shared = [o.removeprefix("--shm-size=") for o in options if o.startswith("--shm-size=")]
    stores = [
        size(match)
        for command in _starts(config)
        for match in re.findall(r"--object-store-memory=(\d+)", command)
    ]
    if len(shared) != 1 or len(stores) != 2 or size(shared[0]) <= max(stores):
        yield "the object store does not fit into /dev/shm"
    if ":" not in docker.get("image", "") or docker["image"].endswith(":latest"):
        yield "the image has no version"


def _starts(config: dict[str, Any]) -> list[str]:
    return [
        command
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config.get(key, [])
        if "ray start" in command
    ]


def _start_faults(config: dict[str, Any]) -> Iterator[str]:
    starts = _starts(config)
    if len(starts) != 2:
        yield "Ray is not started once on each node"
        return
    head, worker = starts
    if "--head" not in head or "--autoscaling-config=~/ray_bootstrap_config.yaml" not in head:
        yield "the head starts no autoscaler"
    if config["provider"]["type"] == "local" and "--num-cpus=0" not in head:
        yield "the head takes work"
    port = re.search(r"--port=(\d+)", head)
    if port is None or f"--address=$RAY_HEAD_IP:{port[1]}" not in worker:
        yield "workers do not find the head"
    if any("--dashboard-host" in command for command in starts):
        yield "the dashboard is open to the network"
    from ray.scripts.scripts import start

    for command in starts:
        words = command.partition("ray start")[2].replace("$RAY_HEAD_IP", "192.0.2.1").split()
        try:
            start.make_context("start", words)
        except Exception as refusal:  # noqa: BLE001 - whatever the parser says is the fault
            yield f"ray start refuses it: {refusal}"


def _amazon(node: dict[str, Any]) -> Iterator[str]:
    import botocore.session
    from botocore.validate import ParamValidator

    session = botocore.session.get_session()
    shape = session.get_service_model("ec2").operation_model("RunInstances").input_shape
    # Ray adds the counts itself.
    report = ParamValidator().validate({"MinCount": 1, "MaxCount": 1, **node}, shape)
    if report.has_errors():
        yield f"unknown to EC2: {report.generate_report()}"


GOOGLE = {
    "machineType": str,
    "disks": [
        {
            "boot": bool,
            "autoDelete": bool,
            "type": str,
            "initializeParams": {"diskSizeGb": int, "sourceImage": str},
        }
    ],
    "scheduling": [{"preemptible": bool}],
}
"""What our files use of `instances.insert`; its full description has 100 MB."""


def _google(node: Any, known: Any = GOOGLE, where: str = "") -> Iterator[str]:
    if isinstance(known, dict) and isinstance(node, dict):
        for key, value in node.items():
            if key in known:
                yield from _google(value, known[key], f"{where}.{key}")
            else:
                yield f"unknown to Compute Engine: {where}.{key}"
    elif isinstance(known, list) and isinstance(node, list):
        for value in node:
            yield from _google(value, known[0], where)
    elif not isinstance(known, type) or type(node) is not known:
        yield f"not what Compute Engine takes: {where}"


@cache
def _azure_parameters() -> frozenset[str]:
    import ray.autoscaler._private as private

    template = Path(private.__path__[0]) / "_azure/azure-vm-template.json"
    parameters = json.loads(template.read_text(encoding="utf-8"))["parameters"]
    return frozenset(parameters) | {"availability_zone"}


def _azure(node: dict[str, Any]) -> Iterator[str]:
    for key in set(node) - {"azure_arm_parameters"}:
        yield f"unknown to Ray's provider: {key}"
    for key in set(node["azure_arm_parameters"]) - _azure_parameters():
        yield f"unknown to Ray's template: {key}"


def _number(name: str) -> int | None:
    match = re.search(r"standard[-_][a-z]?(\d+)", name, re.IGNORECASE)
    return int(match[1]) if match else None


PROVIDERS: dict[str, tuple[Callable, Callable, Callable]] = {
    "aws": (
        _amazon,
        lambda node: node.get("InstanceMarketOptions", {}).get("MarketType") == "spot",
        lambda node: None,  # read off the type by Ray
    ),
    "gcp": (
        _google,
        lambda node: {"preemptible": True} in node.get("scheduling", []),
        lambda node: _number(node["machineType"]),
    ),
    "azure": (
        _azure,
        lambda node: node["azure_arm_parameters"].get("priority") == "Spot",
        lambda node: _number(node["azure_arm_parameters"]["vmSize"]),
    ),
}

# --- KubeRay -----------------------------------------------------------------------------

METADATA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


@cache
def crd_schema(kind: str) -> dict[str, Any]:
    """The schema of a kind, closed: what it does not know is an error."""
    path = CRDS / f"ray.io_{kind.lower()}s.yaml"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    crd = yaml.load(path.read_text(encoding="utf-8"), loader)  # noqa: S506 - a safe one
    [version] = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
    schema = _closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = METADATA
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return schema


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return {"type": schema.get("type", "object")}
    if schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    closed = {}
    for key, value in schema.items():
        if key == "properties":
            # The names below are settings, not keywords: one may be called "properties".
            closed[key] = {
                name: METADATA if name == "metadata" and "properties" not in each else _closed(each)
                for name, each in value.items()
            }
        else:
            closed[key] = _closed(value)
    if "properties" in schema:
        closed["additionalProperties"] = False
    return closed


def crd_faults(document: dict[str, Any]) -> list[str]:
    """What KubeRay's own description of a kind does not know."""
    validator = jsonschema.Draft202012Validator(crd_schema(document["kind"]))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def kuberay_faults(documents: list[dict[str, Any]]) -> list[str]:
    """What the description leaves open, for the documents of one file."""
    by_kind = {document["kind"]: document for document in documents}
    ray = by_kind.get("RayJob") or by_kind["RayCluster"]
    job = ray["kind"] == "RayJob"
    cluster = ray["spec"]["rayClusterSpec"] if job else ray["spec"]
    return [
        *(_job_faults(ray["spec"], cluster) if job else ()),
        *_cluster_faults(cluster),
        *_volume_faults(cluster, by_kind),
    ]


def _job_faults(spec: dict[str, Any], cluster: dict[str, Any]) -> Iterator[str]:
    modes = {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"}
    if spec.get("submissionMode", "K8sJobMode") not in modes:
        yield "unknown submissionMode"
    if not spec.get("shutdownAfterJobFinishes") or spec.get("ttlSecondsAfterFinished", 0) < 1:
        yield "the cluster outlives its job"
    words = spec["entrypoint"].split()
    if spec.get("backoffLimit", 0) < 1 or "--resume-if-exists" not in words:
        yield "a retry does not go on with the run"
    grace = yaml.safe_load(spec.get("runtimeEnvYAML", "{}")).get("env_vars", {})
    wait = int(grace.get("RAY_JOB_STOP_WAIT_TIME_S", 0))
    if not 10 <= wait < _pod(cluster["headGroupSpec"]).get("terminationGracePeriodSeconds", 30):
        yield "a stopped driver has no time to save"
    groups = cluster["workerGroupSpecs"]
    most = sum(group["maxReplicas"] * _cpus(group) for group in groups)
    asked = int(words[words.index("--workers") + 1])
    if asked != most:
        yield f"the run asks for {asked} workers of at most {most}"
    if int(words[words.index("--min-workers") + 1]) > sum(
        group["minReplicas"] * _cpus(group) for group in groups
    ):
        yield "the run waits for workers that nobody starts"


def _pod(group: dict[str, Any]) -> dict[str, Any]:
    return group["template"]["spec"]


def _cpus(group: dict[str, Any]) -> int:
    return int(_pod(group)["containers"][0]["resources"]["limits"]["cpu"])


def _cluster_faults(cluster: dict[str, Any]) -> Iterator[str]:
    if cluster.get("authOptions", {}).get("mode") != "token":
        yield "tokens are off"
    if not cluster.get("enableInTreeAutoscaling"):
        yield "the cluster does not scale"
    options = cluster.get("autoscalerOptions", {})
    if options.get("version") != "v2" or not options.get("idleTimeoutSeconds"):
        yield "not autoscaler v2 with an idle timeout"
    head, groups = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    if head["rayStartParams"].get("num-cpus") != "0":
        yield "the head takes work"
    if head.get("serviceType", "ClusterIP") != "ClusterIP" or head.get("enableIngress"):
        yield "the head is open to the world"
    for group in groups:
        if not 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] > 0:
            yield f"{group['groupName']}: replicas are outside their range"
    containers = []
    for group in [head, *groups]:
        pod, name = _pod(group), group.get("groupName", "head")
        if pod.get("restartPolicy") != "Never":
            yield f"{name}: autoscaler v2 needs restartPolicy Never"
        if not pod.get("securityContext", {}).get("runAsNonRoot"):
            yield f"{name}: runs as root"
        [container] = pod["containers"]
        containers.append(container)
        if container["resources"].get("requests") != container["resources"].get("limits"):
            yield f"{name}: requests differ from limits"
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        memory = volumes.get(mounts.get("/dev/shm"), {}).get("emptyDir", {})  # noqa: S108
        store = group["rayStartParams"].get("object-store-memory", "0")
        if memory.get("medium") != "Memory" or not 0 < size(store) < size(memory["sizeLimit"]):
            yield f"{name}: the object store does not fit into /dev/shm"
    if len({container["image"] for container in containers}) != 1:
        yield "head and workers have different images"


def _volume_faults(cluster: dict[str, Any], by_kind: dict[str, Any]) -> Iterator[str]:
    claim = by_kind["PersistentVolumeClaim"]
    if claim["spec"]["accessModes"] != ["ReadWriteMany"]:
        yield "the claim is not ReadWriteMany"
    names = {claim["metadata"]["name"]}
    if "ConfigMap" in by_kind:
        names.add(by_kind["ConfigMap"]["metadata"]["name"])
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = _pod(group)
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for volume in volumes.values():
            source = volume.get("persistentVolumeClaim", {}).get("claimName")
            source = source or volume.get("configMap", {}).get("name")
            if source is not None and source not in names:
                yield f"nothing is called {source}"
        for container in pod["containers"]:
            for mount in container["volumeMounts"]:
                if mount["name"] not in volumes:
                    yield f"no volume is called {mount['name']}"
