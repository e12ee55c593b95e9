"""What a job takes along: the project's own files, and nothing that only weighs."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from distes.cli import package
from distes.cli.package import Project
from distes.errors import UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    return root


def put(root: Path, *names: str, text: str = "x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def list_packed(made: Project) -> set[str]:
    return set(made.survey().files)


def test_runs_environments_and_caches_stay_behind(root: Path) -> None:
    """If wrong: gigabytes are uploaded with each job, or a module of the user's is missing."""
    put(root, "env.py", "pkg/__init__.py", "pkg/runs/__init__.py", "data/x.csv", ".hidden")
    put(root, "runs/x/config.json", "runs/notes.txt", ".git/HEAD", "pkg/__pycache__/a.pyc")
    put(root, "my_env/pyvenv.cfg", "my_env/lib/a.py", ".mypy_cache/CACHEDIR.TAG")
    for name in ("config.json", "generations/0.parquet", "checkpoints/0/done"):
        put(root, f"elsewhere/cartpole/{name}")
    expected = {"env.py", "pkg/__init__.py", "pkg/runs/__init__.py", "data/x.csv", ".hidden"}
    assert list_packed(Project(root)) == expected


def test_ignore_files_count_where_they_are(root: Path) -> None:
    """If wrong: a job ships what its user excluded, or lacks what its user included."""
    put(root, "a.log", "keep.log", "sub/b.log", "sub/c.dat", "sub/deep/c.dat", "build/x", "m.py")
    put(root, ".gitignore", text="*.log\n!keep.log\nbuild/\n")
    put(root, "sub/.rayignore", text="/c.dat\n!b.log\n")
    assert list_packed(Project(root)) == {
        *(".gitignore", "keep.log", "m.py"),
        *("sub/.rayignore", "sub/b.log", "sub/deep/c.dat"),
    }


def test_ignored_files_stay_behind_as_in_git(root: Path) -> None:
    """If wrong: what brings folders back brings all their files back, and data are sent."""
    put(root, "a/x.py", "a/data.bin", "top.bin", "top.py", "b/c/y.py", "b/c/notes.txt")
    put(root, ".gitignore", text="*\n!*/\n!*.py\n")
    assert list_packed(Project(root)) == {"a/x.py", "top.py", "b/c/y.py"}


def test_gitignore_can_be_left_out_of_account_as_for_ray(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: a setting that `ray job submit` follows is silently dropped."""
    put(root, "a.log", "b.dat")
    put(root, ".gitignore", text="*.log")
    put(root, ".rayignore", text="*.dat")
    monkeypatch.setenv("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "1")
    assert list_packed(Project(root)) == {"a.log", ".gitignore", ".rayignore"}


def test_what_the_run_reads_is_packed_though_ignored(root: Path) -> None:
    """If wrong: the job fails for want of a configuration that lies there for all to see."""
    put(root, "a.toml", "b.toml", "runs/old/config.json", "runs/old/checkpoints/1/state.npz")
    put(root, ".gitignore", text="*.toml\nruns/\n")
    made = Project(root, needed=(root / "a.toml", root / "runs" / "old"))
    assert list_packed(made) == {
        ".gitignore",
        "a.toml",
        "runs/old/config.json",
        "runs/old/checkpoints/1/state.npz",
    }
    with pytest.raises(UsageError, match=r"there is no file or directory .*c\.toml"):
        Project(root, needed=(root / "c.toml",)).survey()


def test_an_added_package_yields_to_the_projects_own(root: Path, tmp_path: Path) -> None:
    """If wrong: a job mixes two versions of one package."""
    put(tmp_path / "lib", "thing/__init__.py", "thing/new.py", "thing/__pycache__/x.pyc")
    made = Project(root, added=(tmp_path / "lib" / "thing",))
    assert list_packed(made) == {"thing/__init__.py", "thing/new.py"}
    put(root, "thing/__init__.py", text="own")
    assert made.survey().files["thing/__init__.py"] == root / "thing" / "__init__.py"


def test_links_that_lead_back_end_the_walk(root: Path) -> None:
    """If wrong: packing does not end, or linked data are missing."""
    put(root, "a/x.py")
    (root / "a" / "back").symlink_to(root)
    (root / "linked").symlink_to(root / "a")
    (root / "broken").symlink_to(root / "nowhere")
    assert list_packed(Project(root)) == {"a/x.py", "linked/x.py"}


def test_equal_files_make_equal_packages(root: Path, tmp_path: Path) -> None:
    """If wrong: every retry uploads the project again, or scripts lose their mode."""
    put(root, "run.sh", "b.py")
    (root / "run.sh").chmod(0o755)
    packages = [tmp_path / "one.zip", tmp_path / "two.zip"]
    for number, packed_file in enumerate(packages):
        os.utime(root / "b.py", (number, number + 1_000_000_000))
        assert len(Project(root).pack(packed_file).files) == 2
    assert packages[0].read_bytes() == packages[1].read_bytes()
    with zipfile.ZipFile(packages[0]) as archive:
        assert archive.getinfo("run.sh").external_attr >> 16 & 0o777 == 0o755
        assert archive.read("b.py") == b"x"


def test_too_large_a_project_is_refused_with_what_is_large(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: the upload fails after minutes, with Ray's words and without a cause."""
    put(root, "small.py")
    (root / "data").mkdir()
    (root / "data" / "noise.bin").write_bytes(os.urandom(3 * 2**20))
    monkeypatch.setattr(package, "MAX_BYTES", 2**20)
    with pytest.raises(UsageError, match=r"largest entries are data \(3 MiB\)") as refusal:
        Project(root).pack(tmp_path / "p.zip")
    assert ".rayignore" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_path_outside_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If wrong: a job looks for a file that only the laptop has."""
    monkeypatch.chdir(root)
    assert Project(root).within("conf/a.toml", "configuration") == "conf/a.toml"
    assert Project(root).within(root / "a.toml", "configuration") == "a.toml"
    with pytest.raises(UsageError, match=r"start_from /else/x\.npy is not below"):
        Project(root).within("/else/x.npy", "start_from")


def test_keys_and_homes_stay_here(tmp_path, monkeypatch):
    """A package can be read by others with access to the cluster."""
    home = tmp_path / "home"
    project = home / "project"
    for name in (".ssh/id_ed25519", ".aws/credentials", ".env", "sub/.netrc", "main.py"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    monkeypatch.setenv("HOME", str(home))
    assert set(Project(project).survey().files) == {"main.py"}
    for root in (home, tmp_path):
        with pytest.raises(UsageError, match="home directory"):
            Project(root).survey()


SECRETS = """
.env .env.local prod.env .envrc .git-credentials .gitconfig .npmrc .yarnrc.yml .pgpass .my.cnf
certs/server.pem certs/server.KEY credentials.json aws_credentials.csv client_secret_12.json
secrets.toml .streamlit/secrets.toml hf_token token.json token.txt .vault-token deploy_key
id_rsa id_ed25519.pub kaggle.json terraform.tfstate .bash_history .kube/config .dockercfg
.env-prod .envs/.production/.django secrets/db.yml openai_key.txt gcp-key.json token.pickle
app-firebase-adminsdk-1.json
"""
SOURCES = """
main.py token.py secrets.py credentials.py token/__init__.py tokenizer.json keys.py key.npy
password_env.py monkey.txt .env.example data/credential_study.csv .gitignore
"""


def test_files_that_may_hold_keys_stay_here(root: Path) -> None:
    """If wrong: who reads a cluster's packages has its users' keys, or a module is missing."""
    put(root, *SECRETS.split(), *SOURCES.split())
    contents = Project(root).survey()
    assert set(contents.files) == set(SOURCES.split())
    assert all((root / name).exists() for name in contents.left)
    assert len(contents.left) == len(SECRETS.split())
    assert contents.left[".env.local"] == contents.left[".kube"] == package.KEYS


def test_no_link_leads_out_of_the_project(root: Path, tmp_path: Path) -> None:
    """If wrong: a link in somebody's project sends what else is on this machine."""
    put(tmp_path / "else", "data.csv", "run/config.json")
    put(root, "main.py", ".ssh/id", "sub/x.py")
    for link, target in {
        "data.csv": tmp_path / "else" / "data.csv",
        "sub/all": tmp_path / "else",
        "up": root / "..",
        "plain.txt": root / ".ssh" / "id",
        "plain": root / ".ssh",
        "circle": root / "circle",
        "fine.py": root / "main.py",
    }.items():
        (root / link).symlink_to(target)
    contents = Project(root).survey()
    assert set(contents.files) == {"main.py", "sub/x.py", "fine.py"}
    assert {name for name, why in contents.left.items() if why == package.LINK} == {
        *("data.csv", "sub/all", "up")
    }
    assert contents.left["plain.txt"] == contents.left["plain"] == package.KEYS
    with pytest.raises(UsageError, match="run leads out of the project"):
        Project(root, needed=(root / "sub" / "all" / "run",)).survey()
