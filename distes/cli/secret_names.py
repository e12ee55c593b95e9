"""What files are called that hold keys, tokens, passwords, or what people typed.

Names alone decide: no file is read for it. After the ignore templates that are in common
use, and the file rules of scanners for secrets.
"""

from __future__ import annotations

import re
from fnmatch import translate
from pathlib import Path

PLACES = """
    .ssh .gnupg .password-store .putty .aws .azure .gcloud .oci .ray .kube .docker .config .cache
    .local .jupyter .ipython .huggingface .kaggle .terraform .terraform.d .subversion .vault
    .secrets secrets .env .envs .direnv .mozilla .vscode .idea
"""
"""Names of folders, or of files."""

FILES = """
    .env.* .env-* .env_* .env~ *.env .envrc
    .git-credentials .gitconfig .netrc _netrc .npmrc .yarnrc .yarnrc.yml .pypirc pip.conf .condarc
    .pgpass pgpass.conf .my.cnf .mylogin.cnf .dbshell .htpasswd .s3cfg .boto .bigqueryrc
    .databrickscfg .modal.toml .dockercfg .dockerconfigjson kubeconfig *.kubeconfig kaggle.json
    .renviron .terraformrc terraform.rc *.tfstate *.tfstate.* *.tfvars *.tfvars.json
    *.publishsettings *.rdp sftp.json sftp-config.json .vault-token .vault_pass*

    *.pem *.key *.p8 *.p12 *.pfx *.pkcs12 *.ppk *.jks *.keystore *.keytab *.kdb *.kdbx *.ovpn
    *.agekey id_rsa* id_dsa* id_ecdsa* id_ed25519* *_rsa *_dsa *_ecdsa *_ed25519 *_key *-key
    *_key.txt *-key.txt *_key.json *-key.json *adminsdk*.json

    *credentials *credentials.json *credentials.toml *credentials.ini *credentials.csv
    *credentials.yml *credentials.yaml *credentials.xml *credentials.txt
    client_secret*.json service-account*.json service_account*.json
    secrets *secrets.json *secrets.toml *secrets.ini *secrets.yml *secrets.yaml *secrets.txt
    *secret *secret.json *secret.toml *secret.yml *secret.yaml *secret.txt
    token *.token *_token *-token *token.json *token.txt *token.yml *token.yaml
    tokens.json tokens.txt token.pickle auth.json *apikey *apikey.txt *api_key.txt *api-key.txt
    *password *password.txt *passwords.txt

    .*_history
"""
"""Patterns for the names of files, in lower case."""

EXAMPLES = ".env.example .env.sample .env.template .env.dist example.env"
"""They show what to fill in."""

_PLACES, _EXAMPLES = frozenset(PLACES.split()), frozenset(EXAMPLES.split())
_FILES = re.compile("|".join(map(translate, FILES.split())))


def is_secret(path: Path) -> bool:
    """Whether a file or folder is, by its name, one that is not to be sent."""
    name = path.name.lower()
    if name in _PLACES:
        return True
    return name not in _EXAMPLES and _FILES.match(name) is not None and not path.is_dir()
