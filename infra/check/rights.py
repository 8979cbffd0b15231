"""Rights that are too broad, and buckets that others could read: found in the text of the files, by name and line."""

import re
from collections.abc import Iterator
from pathlib import Path

from infra.check.finding import Finding, line_at, line_of
from infra.check.terraform import list_files

ROLE = re.compile(r"(roles/[\w.]+)")
# On a whole project; an administrator of one thing, named below, is what its duty asks for.
TOO_BROAD = re.compile(r"roles/(owner|editor|viewer|[\w.]*[aA]dmin|iam\.\w+|storage\.\w+|resourcemanager\.\w+)$")
ON_ONE_THING = {
    "roles/iam.serviceAccountUser",
    "roles/iam.serviceAccountTokenCreator",
    "roles/iam.workloadIdentityUser",
}
EVERYONE = re.compile(r"\ballUsers\b|\ballAuthenticatedUsers\b")
OF_PROJECT = re.compile(r"^resource \"google_project_iam_(member|binding|policy)\" .*?^\}", re.DOTALL | re.MULTILINE)
LIST_OF_PROJECT = re.compile(r"^  project_roles = .*?^  \]\)", re.DOTALL | re.MULTILINE)
BUCKET = re.compile(r'^resource "google_storage_bucket" "(\w+)".*?^\}', re.DOTALL | re.MULTILINE)
CLOSED = {"public_access_prevention": '"enforced"', "uniform_bucket_level_access": "true", "force_destroy": "false"}


def check_roles(root: Path) -> Iterator[Finding]:
    """No account owns or administers, and what is given on a whole project is a role of one duty."""
    for name, text in list_files(root).items():
        for role in ROLE.finditer(text):
            if role[1] in ("roles/owner", "roles/editor", "roles/viewer") or role[1].lower().endswith("admin"):
                advice = "give the roles of the duty, as docs/guides/infrastructure.md lists them"
                yield Finding(name, line_at(text, role.start()), f"{role[1]} is too broad", advice)
        for part in (*OF_PROJECT.finditer(text), *LIST_OF_PROJECT.finditer(text)):
            for role in ROLE.finditer(part[0]):
                if TOO_BROAD.match(role[1]) and not role[1].lower().endswith(("owner", "editor", "viewer", "admin")):
                    line = line_at(text, part.start() + role.start())
                    yield Finding(name, line, f"{role[1]} on the whole project", "give it on one bucket or account")
            if part[0].startswith("resource") and "_iam_member" not in part[0].splitlines()[0]:
                line = line_at(text, part.start())
                yield Finding(name, line, "replaces rights that others gave", "use google_project_iam_member")
        for anyone in EVERYONE.finditer(re.sub(r"error_message[^\n]*", lambda line: " " * len(line[0]), text)):
            yield Finding(name, line_at(text, anyone.start()), f"{anyone[0]} may do this", "name groups or accounts")


def check_buckets(root: Path) -> Iterator[Finding]:
    """Buckets that can never be public, and are not emptied together with the infrastructure."""
    for name, text in list_files(root).items():
        for bucket in BUCKET.finditer(text):
            for setting, wanted in CLOSED.items():
                given = re.search(rf"^[ \t]*{setting}\s*=\s*(\S+)", bucket[0], re.MULTILINE)
                if given is None or given[1] != wanted:
                    first = line_at(text, bucket.start())
                    line = line_of(text, rf"^[ \t]*{setting}\s*=", first) if given else first
                    what = f"google_storage_bucket.{bucket[1]}: {setting} is {given[1] if given else 'not set'}"
                    yield Finding(name, line, what, f"set it to {wanted}")
