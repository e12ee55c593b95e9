"""The files in clusters/, without a cluster: what the tools that read them would say."""

import copy
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml
from cluster_checks import (
    CLUSTERS,
    CRDS,
    ROOT,
    crd_faults,
    kuberay_faults,
    launcher_faults,
    secrets,
)

import distes

pytestmark = pytest.mark.slow

LAUNCHERS = ["aws", "gcp", "azure", "on-premise"]
CLOUDS = ["aws", "gcp", "azure"]
KUBERAY = ["kuberay-job", "kuberay-cluster"]
FILES = sorted(p for p in CLUSTERS.iterdir() if p.is_file())

needs_crds = pytest.mark.skipif(not CRDS.is_dir(), reason=f"no {CRDS}")


def launcher(name):
    return yaml.safe_load((CLUSTERS / f"{name}.yaml").read_text(encoding="utf-8"))


def documents(name):
    return list(yaml.safe_load_all((CLUSTERS / f"{name}.yaml").read_text(encoding="utf-8")))


def at(tree, path):
    """The place that a path like ``a.0.b`` leads to, and its last step."""
    *way, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    for step in way:
        tree = tree[step]
    return tree, last


def changed(tree, path, value):
    """A copy with one thing set, or taken away where the value is None."""
    tree = copy.deepcopy(tree)
    place, last = at(tree, path)
    if value is None:
        del place[last]
    else:
        place[last] = value
    return tree


# --- Ray's cluster launcher


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launcher_file_is_ready_to_use(name):
    """`ray up` would refuse it, or start something dear, open or useless."""
    assert launcher_faults(launcher(name)) == []


BAD_LAUNCHERS = [
    ("aws", "max_worker", 3, "Ray refuses"),
    ("aws", "head_node_type", "boss", "Ray refuses"),
    ("gcp", "available_node_types/worker/min_workers", 99, "Ray refuses"),
    ("on-premise", "provider/worker_ips", None, "Ray refuses"),
    ("on-premise", "provider/worker_ips", ["192.0.2.10"], "the head is among"),
    ("aws", "available_node_types/head/resources/CPU", 4, "the head takes work"),
    ("aws", "available_node_types/worker/node_config/InstanceTipe", "x", "unknown to EC2"),
    (
        "aws",
        "available_node_types/worker/node_config/InstanceMarketOptions/Market",
        "x",
        "unknown to EC2",
    ),
    ("gcp", "available_node_types/worker/node_config/machinetype", "x", "unknown to Compute"),
    ("gcp", "available_node_types/worker/node_config/disks/0/boot", "yes", "not what Compute"),
    (
        "azure",
        "available_node_types/worker/node_config/azure_arm_parameters/vmsize",
        "x",
        "unknown to Ray's template",
    ),
    ("azure", "available_node_types/worker/node_config/vmSize", "x", "unknown to Ray's provider"),
    ("aws", "available_node_types/worker/node_config/InstanceMarketOptions", None, "not a spot"),
    ("azure", "available_node_types/worker/resources/CPU", 8, "differs from the machine"),
    ("gcp", "available_node_types/worker/resources/CPU", 8, "differs from the machine"),
    ("aws", "available_node_types/worker/max_workers", 2, "cannot be reached"),
    ("aws", "available_node_types/worker/max_workers", 20, "above the cluster's"),
    ("aws", "available_node_types/worker/min_workers", None, "do not make a range"),
    ("gcp", "idle_timeout_minutes", 600, "idle workers stay"),
    ("aws", "provider/cache_stopped_nodes", None, "stopped machines"),
    ("azure", "docker/run_options", ["--shm-size=4g"], "tokens are off"),
    ("aws", "docker/run_options/0", "--shm-size=1g", "does not fit"),
    ("aws", "docker/image", "REGISTRY/distes:latest", "no version"),
    ("aws", "file_mounts", {}, "does not reach"),
    ("gcp", "head_start_ray_commands", ["ray stop"], "not started once"),
    (
        "on-premise",
        "head_start_ray_commands/1",
        "ray start --head --port=6379 --autoscaling-config=~/ray_bootstrap_config.yaml"
        " --dashboard-host=0.0.0.0 --object-store-memroy=1",
        "the head takes work|dashboard is open|ray start refuses",
    ),
    (
        "aws",
        "worker_start_ray_commands/1",
        "ray start --address=$RAY_HEAD_IP:1234 --object-store-memory=2000000000",
        "do not find the head",
    ),
]


@pytest.mark.parametrize(("name", "path", "value", "fault"), BAD_LAUNCHERS)
def test_launcher_checks_see_mistakes(name, path, value, fault):
    """The test above would pass whatever the files say."""
    found = launcher_faults(changed(launcher(name), path, value))
    for each in fault.split("|"):
        assert any(each in one for one in found), found


def test_spot_head_is_seen():
    """A head that may be taken away would end the run."""
    config = launcher("aws")
    types = config["available_node_types"]
    types["head"]["node_config"]["InstanceMarketOptions"] = {"MarketType": "spot"}
    assert launcher_faults(config) == ["the head may be taken away"]


# --- KubeRay


@needs_crds
@pytest.mark.parametrize("name", KUBERAY)
def test_manifests_hold_only_what_kuberay_knows(name):
    """Kubernetes would refuse it or, worse, drop a misspelt setting in silence."""
    for document in documents(name):
        if document["apiVersion"].startswith("ray.io/"):
            assert crd_faults(document) == []


@pytest.mark.parametrize("name", KUBERAY)
def test_manifests_are_ready_to_use(name):
    """The cluster would not scale, not be safe, or not survive a loss."""
    assert kuberay_faults(documents(name)) == []


CLUSTER, JOB = "1/spec", "2/spec"
WORKER = "workerGroupSpecs/0/template/spec"

BAD_CRDS = [
    ("kuberay-job", f"{JOB}/backofLimit", 3, "backofLimit"),
    ("kuberay-job", f"{JOB}/rayClusterSpec/authOptions/mode", "tokens", "'tokens' is not one of"),
    ("kuberay-job", f"{JOB}/rayClusterSpec/headGroupSpec/rayStartParams/num-cpus", 0, "num-cpus"),
    ("kuberay-job", f"{JOB}/rayClusterSpec/{WORKER}/restartPolice", "Never", "restartPolice"),
    ("kuberay-cluster", f"{CLUSTER}/{WORKER}/containers/0/volumeMounts/0/path", "/x", "'path'"),
    ("kuberay-cluster", f"{CLUSTER}/{WORKER}/containers/0/name", None, "'name' is a required"),
    ("kuberay-cluster", f"{CLUSTER}/workerGroupSpecs/0/maxReplicas", "16", "maxReplicas"),
    ("kuberay-cluster", f"{CLUSTER}/autoscalerOptions/version", "v3", "'v3' is not one of"),
    ("kuberay-cluster", "1/metadata/lables", {}, "lables"),
    ("kuberay-cluster", f"{CLUSTER}/headGroupSpec/template/metadata/annotation", {}, "annotation"),
]


@needs_crds
@pytest.mark.parametrize(("name", "path", "value", "fault"), BAD_CRDS)
def test_descriptions_see_mistakes(name, path, value, fault):
    """The test above would pass whatever the manifests say."""
    document = changed(documents(name), path, value)[int(path[0])]
    found = crd_faults(document)
    assert any(fault in each for each in found), found


BAD_MANIFESTS = [
    ("kuberay-job", f"{JOB}/submissionMode", "K8SJobMode", "unknown submissionMode"),
    ("kuberay-job", f"{JOB}/shutdownAfterJobFinishes", None, "outlives its job"),
    ("kuberay-job", f"{JOB}/backoffLimit", None, "does not go on"),
    (
        "kuberay-job",
        f"{JOB}/entrypoint",
        "distes run x.toml --workers 64 --min-workers 8",
        "does not go on",
    ),
    ("kuberay-job", f"{JOB}/runtimeEnvYAML", "env_vars: {}", "no time to save"),
    ("kuberay-job", f"{JOB}/rayClusterSpec/workerGroupSpecs/0/maxReplicas", 4, "of at most 32"),
    (
        "kuberay-job",
        f"{JOB}/rayClusterSpec/workerGroupSpecs/0/minReplicas",
        0,
        "workers that nobody starts",
    ),
    ("kuberay-job", "1/spec/accessModes", ["ReadWriteOnce"], "not ReadWriteMany"),
    ("kuberay-job", "1/metadata/name", "other", "nothing is called distes-runs"),
    ("kuberay-job", "0/metadata/name", "other", "nothing is called distes-experiment"),
    ("kuberay-cluster", f"{CLUSTER}/authOptions", None, "tokens are off"),
    ("kuberay-cluster", f"{CLUSTER}/enableInTreeAutoscaling", None, "does not scale"),
    ("kuberay-cluster", f"{CLUSTER}/autoscalerOptions/version", "v1", "not autoscaler v2"),
    ("kuberay-cluster", f"{CLUSTER}/{WORKER}/restartPolicy", "Always", "restartPolicy Never"),
    ("kuberay-cluster", f"{CLUSTER}/{WORKER}/securityContext", None, "runs as root"),
    ("kuberay-cluster", f"{CLUSTER}/workerGroupSpecs/0/replicas", 99, "outside their range"),
    ("kuberay-cluster", f"{CLUSTER}/headGroupSpec/serviceType", "LoadBalancer", "open to the"),
    (
        "kuberay-cluster",
        f"{CLUSTER}/headGroupSpec/rayStartParams/num-cpus",
        "4",
        "the head takes work",
    ),
    (
        "kuberay-cluster",
        f"{CLUSTER}/{WORKER}/containers/0/resources/limits/memory",
        "32Gi",
        "requests differ",
    ),
    (
        "kuberay-cluster",
        f"{CLUSTER}/{WORKER}/volumes/0/emptyDir/sizeLimit",
        "500Mi",
        "does not fit",
    ),
    ("kuberay-cluster", f"{CLUSTER}/{WORKER}/containers/0/image", "REGISTRY/x:1", "different im"),
    (
        "kuberay-cluster",
        f"{CLUSTER}/{WORKER}/containers/0/volumeMounts/0/name",
        "typo",
        "no volume is called typo",
    ),
]


@pytest.mark.parametrize(("name", "path", "value", "fault"), BAD_MANIFESTS)
def test_manifest_checks_see_mistakes(name, path, value, fault):
    """The checks that the descriptions lack would pass whatever the manifests say."""
    found = kuberay_faults(changed(documents(name), path, value))
    assert any(fault in each for each in found), found


# --- Command lines that our own CLI must take


def parsed(words, monkeypatch, tmp_path):
    """Have the CLI read a command line, the configuration included, and run nothing."""
    from distes.cli.commands import distes
    from distes.cli.run_flags import build_config
    from distes.search import config_file
    from distes.search.settings import Settings

    program, name, *arguments = words
    assert program == "distes"
    monkeypatch.chdir(ROOT)
    context = distes.commands[name].make_context(name, arguments, parent=distes_context())
    if name == "run":
        config_file.from_config(build_config(context, context.params["target"]), Settings)
    return context.params


def distes_context():
    import click

    from distes.cli.commands import SETTINGS, distes

    return click.Context(distes, info_name="distes", **SETTINGS)


def commands_shown(text):
    """Command lines of ours in a Markdown page: alone, after `ray job submit ... --`, inline."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    for line in lines:
        command = re.sub(r"^ray job submit .*? -- (?=distes )", "", line)
        command = re.sub(
            r"^sbatch .*?clusters/slurm.sh (\S+) (\S+)", r"distes run \1 --out \2", command
        )
        if re.match(r"distes [a-z]+ \S", command):
            yield shlex.split(command, comments=True)


README = (CLUSTERS / "README.md").read_text(encoding="utf-8")
SHOWN = list(dict.fromkeys(map(tuple, commands_shown(README))))


def test_commands_are_found():
    """The next test would check nothing."""
    assert {words[1] for words in SHOWN} >= {"run", "submit", "resume", "info", "plot"}
    assert len(SHOWN) >= 8


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_commands_in_the_readme_parse(words, monkeypatch, tmp_path):
    """A reader who copies a line would be refused."""
    parsed(words, monkeypatch, tmp_path)


def test_command_that_does_not_parse_is_seen(monkeypatch, tmp_path):
    """The parser would swallow anything."""
    import click

    line = "distes run examples/cartpole_cem.toml --min-wrokers 3"
    with pytest.raises(click.NoSuchOption):
        parsed(line.split(), monkeypatch, tmp_path)


def test_commands_in_comments_parse(monkeypatch, tmp_path):
    """The usage at the head of a file would be wrong."""
    found = [
        shlex.split(line, comments=True)
        for path in FILES
        for line in re.findall(r"^#\s+(distes [a-z]+ .*)$", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert found
    for words in found:
        parsed(words, monkeypatch, tmp_path)


def test_entrypoint_of_the_job_parses(monkeypatch, tmp_path):
    """The pod would start, and the driver leave with a usage error."""
    experiment, _, job = documents("kuberay-job")
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    mounts = {mount["name"]: mount["mountPath"] for mount in head["volumeMounts"]}
    words = job["spec"]["entrypoint"].split()
    [(name, text)] = experiment["data"].items()
    assert words[2] == f"{mounts['experiment']}/{name}"
    assert words[words.index("--out") + 1].startswith(mounts["runs"] + "/")
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    parameters = parsed([*words[:2], str(file), *words[3:]], monkeypatch, tmp_path)
    assert parameters["target"] == str(file)


# --- SLURM


def linter(name):
    """A program that the `dev` extra installs beside this Python."""
    program = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    assert program, f"{name} is missing: pip install '.[dev]'"
    return program


def linted(program, *arguments):
    done = subprocess.run(
        [linter(program), *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_slurm_script_lints():
    """A quoting mistake would show only on somebody's cluster."""
    assert linted("shellcheck", CLUSTERS / "slurm.sh") == (0, "")


def test_shell_linter_sees_mistakes(tmp_path):
    """The linter would be asleep."""
    text = (CLUSTERS / "slurm.sh").read_text(encoding="utf-8")
    bad = tmp_path / "slurm.sh"
    bad.write_text(text.replace('rm -rf "$RAY_TMPDIR"', "rm -rf $RAY_TMPDIR"), encoding="utf-8")
    code, said = linted("shellcheck", bad)
    assert code != 0
    assert "SC2086" in said


STUBS = {
    # Drops its own options and runs the task of the first node.
    "srun": 'echo "$@" >"$LOG/srun"\n'
    "while [[ $1 == -* ]]; do shift; done\n"
    'SLURM_PROCID=${RANK:-0} "$@"\n',
    "scontrol": "case $1 in show) printf '%s\\n' node1 node2 ;;"
    ' requeue) echo "$2" >"$LOG/requeue"; exit "${REQUEUE:-0}" ;; esac\n',
    "ray": "case $1 in\n"
    '  get-auth-token) umask >"$LOG/umask"; echo not-for-the-log ;;\n'
    "  symmetric-run)\n"
    '    echo "$@" >"$LOG/ray"; env >"$LOG/env"\n'
    "    [[ -z ${NO_RAY:-} ]] || { echo 'Failed to start Ray' >&2; exit 0; }\n"
    '    while [[ $1 != -- ]]; do shift; done; shift; "$@" ;;\n'
    "  *) exit 99 ;;\nesac\n",
    "distes": 'printf "%s\\n" "$@" >"$LOG/distes"\n'
    '[[ -z ${LONG:-} ]] || { trap "echo saved >$LOG/saved; exit 143" TERM\n'
    '  touch "$LOG/running"; for _ in {1..600}; do sleep 0.1; done; exit 77; }\n'
    "exit ${CODE:-0}\n",
    "getent": 'printf "%s\\n" "${ADDRESS:-127.0.1.1} STREAM node1" "192.0.2.7 STREAM"\n',
    "hostname": "echo 127.0.0.1 192.0.2.8\n",
}


@pytest.fixture
def slurm(tmp_path):
    """Starts slurm.sh with SLURM, Ray and distes played by stubs that write down what they hear."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    log.mkdir()
    for name, text in STUBS.items():
        path = programs / name
        path.write_text(f"#!/usr/bin/env bash\n{text}", encoding="utf-8")
        path.chmod(0o755)
    job = str(10_000_000 + os.getpid())
    own = {
        "HOME": str(tmp_path),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LOG": str(log),
        "TMPDIR": str(tmp_path),
        "SLURM_JOB_ID": job,
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "8",
    }
    started = []

    def start(*arguments, **more):
        child = subprocess.Popen(
            ["bash", str(CLUSTERS / "slurm.sh"), *arguments],
            env={k: v for k, v in {**own, **more}.items() if v is not None},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        child.log = log
        child.job = job
        started.append(child)
        return child

    yield start
    for child in started:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    shutil.rmtree(f"/tmp/distes-{job}", ignore_errors=True)  # noqa: S108 - the script's own


def ended(child):
    said, _ = child.communicate(timeout=120)
    return child.returncode, said


def waited_for(path):
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)
    pytest.fail(f"no {path}")


RUN = ("examples/cartpole_cem.toml", "/shared/runs/x")


def test_slurm_runs_distes_on_the_head(slurm, monkeypatch, tmp_path):
    """The nodes would not find each other, or the run would not go on after a requeue."""
    job = slurm(*RUN, "--seed", "3")
    code, said = ended(job)
    assert (code, "not-for-the-log" in said) == (0, False)
    port = 20000 + int(job.job) % 5000 * 2
    words = (job.log / "distes").read_text().splitlines()
    assert words == (
        f"run {RUN[0]} --out {RUN[1]} --address 192.0.2.7:{port} --workers auto"
        " --resume-if-exists --seed 3"
    ).split(" ")
    ray = (job.log / "ray").read_text()
    assert ray.startswith(f"symmetric-run --address 192.0.2.7:{port} --min-nodes 2 --num-cpus=7 ")
    environment = (job.log / "env").read_text().splitlines()
    assert "RAY_AUTH_MODE=token" in environment
    assert f"RAY_TMPDIR=/tmp/distes-{job.job}" in environment
    assert (job.log / "umask").read_text().strip() == "0077"
    assert {"--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=8"} <= set(
        (job.log / "srun").read_text().split()
    )
    assert not (job.log / "requeue").exists()
    assert not list(tmp_path.glob("tmp.*")), "its own directory stays"
    parsed(["distes", *words], monkeypatch, tmp_path)


def test_slurm_nodes_other_than_the_head_give_all_cores(slurm):
    """A core of each node would idle, not only the driver's."""
    job = slurm(*RUN, RANK="1")
    ended(job)
    assert "--num-cpus=8 " in (job.log / "ray").read_text()


def test_slurm_options_fit_ray():
    """`ray symmetric-run` or the `ray start` below it would refuse an option."""
    from ray.scripts.scripts import start
    from ray.scripts.symmetric_run import symmetric_run

    text = (CLUSTERS / "slurm.sh").read_text(encoding="utf-8")
    [call] = re.findall(r"ray symmetric-run (.*?)-- bash", text.replace("\\\n", " "), re.DOTALL)
    call = re.sub(r'"?\$(\w+)"?', lambda m: "h:1" if m[1] == "HEAD" else "4", call)
    context = symmetric_run.make_context("_", call.split(), resilient_parsing=True)
    assert (context.params["address"], context.params["min_nodes"]) == ("h:1", 4)
    options = list(context.params["ray_args_and_entrypoint"])
    assert len(options) == 3
    assert not {"--head", "--port", "--block", "--node-ip-address"} & set(options)
    start.make_context("start", ["--head", "--port=1", *options])
    start.make_context("start", ["--address", "h:1", "--block", *options])


def test_slurm_does_not_believe_a_zero_of_ray(slurm):
    """A job whose Ray never started would look finished."""
    code, said = ended(slurm(*RUN, NO_RAY="1"))
    assert code == 1
    assert "did not run to an end" in said


def test_slurm_gives_the_drivers_exit_code(slurm):
    """A failed run would look finished; a failure would be queued for ever."""
    job = slurm(*RUN, CODE="7")
    assert ended(job)[0] == 7
    assert not (job.log / "requeue").exists()


def test_slurm_queues_again_when_its_time_is_over(slurm):
    """The run would be killed unsaved, or stay half done."""
    job = slurm(*RUN, LONG="1")
    waited_for(job.log / "running")
    job.send_signal(signal.SIGUSR1)  # to the batch shell alone, as --signal=B: does
    code, said = ended(job)
    assert (code, (job.log / "saved").exists()) == (0, True), said
    assert (job.log / "requeue").read_text().strip() == job.job


def test_slurm_that_may_not_queue_again_says_so(slurm):
    """A job that cannot be queued again would end as if it had finished."""
    job = slurm(*RUN, LONG="1", REQUEUE="1")
    waited_for(job.log / "running")
    job.send_signal(signal.SIGUSR1)
    code, said = ended(job)
    assert code == 143
    assert "the same sbatch command goes on" in said


def test_slurm_lets_a_cancelled_driver_save(slurm):
    """scancel signals all processes: whoever left first would take the driver along."""
    job = slurm(*RUN, LONG="1")
    waited_for(job.log / "running")
    os.killpg(job.pid, signal.SIGTERM)
    code, said = ended(job)
    assert (code, (job.log / "saved").exists()) == (143, True), said
    assert not (job.log / "requeue").exists()


@pytest.mark.parametrize(
    ("arguments", "more", "code", "sentence"),
    [
        (RUN[:1], {}, 2, "usage:"),
        (("x.toml", "runs/x"), {}, 1, "absolute path or a URI, not 'runs/x'"),
        (RUN, {"SLURM_JOB_ID": None}, 1, "not inside a SLURM job"),
    ],
    ids=["too few", "relative", "no job"],
)
def test_slurm_refuses_in_a_sentence(slurm, arguments, more, code, sentence):
    """A mistake would cost a turn in the queue and a riddle."""
    job = slurm(*arguments, **more)
    left, said = ended(job)
    assert left == code
    assert sentence in said
    assert not (job.log / "ray").exists()


# --- The image


def test_dockerfile_lints():
    """The image would be large, unpinned or root's."""
    code, said = linted("hadolint", CLUSTERS / "Dockerfile")
    assert (code, said) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("USER ${UID}", "USER root", "DL3002"),
        ("--no-cache-dir -c constraints.txt -r", "-c constraints.txt -r", "DL3042"),
        ("FROM python:${PYTHON_VERSION}-slim-${DEBIAN_VERSION}", "FROM python:latest", "DL3007"),
        (" --no-install-recommends", "", "DL3015"),
    ],
)
def test_dockerfile_linter_sees_mistakes(right, wrong, rule, tmp_path):
    """The linter would be asleep."""
    text = (CLUSTERS / "Dockerfile").read_text(encoding="utf-8")
    assert right in text
    bad = tmp_path / "Dockerfile"
    bad.write_text(text.replace(right, wrong), encoding="utf-8")
    code, said = linted("hadolint", bad)
    assert code != 0
    assert rule in said


def test_image_has_what_the_launcher_and_kuberay_call():
    """Nodes would start and never become ready."""
    text = (CLUSTERS / "Dockerfile").read_text(encoding="utf-8")
    packages = re.search(r"--no-install-recommends (.*?) *\\", text)[1].split()
    assert {"openssh-client", "rsync", "wget"} <= set(packages)
    assert "ENV HOME=/home/ray" in text, "the launcher takes /root for it"
    assert "/etc/profile.d/" in text, "login shells do not find ray"
    assert "ENTRYPOINT" not in text, "the launcher runs `IMAGE bash`"
    assert text.rindex("USER ${UID}") < text.rindex("CMD"), "it would run as root"


def test_dockerfile_copies_what_exists_and_is_sent():
    """The build would stop at a file that is not there or not sent."""
    text = (CLUSTERS / "Dockerfile").read_text(encoding="utf-8")
    sent = (CLUSTERS / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in sent
    copied = [
        name for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.M) for name in line.split()
    ]
    assert copied
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in sent


# --- All files together


def test_versions_agree():
    """Nodes of two versions of Ray do not talk to each other."""
    version = re.search(r"^ARG RAY_VERSION=(\S+)$", (CLUSTERS / "Dockerfile").read_text(), re.M)[1]
    for name in KUBERAY:
        spec = documents(name)[-1]["spec"]
        assert spec.get("rayClusterSpec", spec)["rayVersion"] == version
    for path in FILES:
        found = re.findall(r"ray(?:\[default\])?==([\d.]+\d)", path.read_text(encoding="utf-8"))
        assert set(found) <= {version}, path.name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [needed] = [d for d in project["dependencies"] if d.startswith("ray")]
    assert tuple(map(int, needed.partition(">=")[2].split("."))) <= tuple(
        map(int, version.split("."))
    )
    images = {
        image
        for path in FILES
        for image in re.findall(r"REGISTRY/distes:([\d.]+\d)", path.read_text(encoding="utf-8"))
    }
    assert images == {distes.__version__}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_secrets(path):
    """Somebody's key would be published."""
    assert secrets(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "  - --env=RAY_AUTH_TOKEN=s3cr3t-enough",
        "RAY_AUTH_TOKEN: '0123456789'",
        "key: AKIA" + "ABCDEFGHIJKLMNOP",
        "password: hunter2",
        "0123456789abcdef" * 4,
        "-----BEGIN RSA " + "PRIVATE KEY-----",
    ],
)
def test_secrets_are_seen(text):
    """The test above would pass whatever the files hold."""
    assert secrets(text)


def test_readme_lists_what_must_be_changed():
    """A reader would start with a setting that nobody told them to change."""
    marked = {}
    for path in FILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if match := re.match(r"\s*# CHANGE ([\w-]+)", line):
                below = "\n".join(lines[number + 1 : number + 12])
                assert match[1] in below, f"{path.name}: {match[1]} is not below its mark"
                marked.setdefault(path.name, set()).add(match[1])
    listed = {
        match[1]: set(re.findall(r"`([\w-]+)`", match[2]))
        for match in re.finditer(r"^\| \[([\w.-]+)\]\([\w.-]+\) \| (`.*) \|$", README, re.M)
    }
    assert listed == marked
    assert len(marked) == 7


def test_readme_links_lead_somewhere():
    """A link would be dead; every file would not be mentioned."""
    links = set(re.findall(r"\]\(([^)#:]+)\)", README))
    assert links >= {p.name for p in FILES if p.suffix in {".yaml", ".sh"}}
    for link in links:
        assert (CLUSTERS / link).exists(), link
