"""Exports on a Hugging Face hub: ``hf://USER/NAME`` in place of a folder, and ``export --push``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from datamodules.schema import DataError, one_line

SCHEME = "hf://"
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.yaml", "README.md"
FILES = (WEIGHTS, CONFIG, CARD)
"""What an export writes, and all that is sent or fetched."""

LOG_IN = "log in by `hf auth login`, or set HF_TOKEN"
_START = re.compile(r"hf:/+")  # pathlib writes one slash of the two
_PART = r"[A-Za-z0-9](?:[\w-]|\.(?!\.))*"
_NAME = re.compile(rf"(?a:({_PART}/{_PART})(?:@(\w(?:[\w/-]|\.(?!\.))*))?)")
_HTTP = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
_PICKLES = re.compile(r"\.(bin|pt|pth|ckpt|pkl|pickle|joblib|tar)$")


class Repository(NamedTuple):
    """A repository of models.

    Attributes:
        name: ``USER/NAME``.
        revision: branch, tag or commit; None = its main branch.
    """

    name: str
    revision: str | None

    @property
    def address(self) -> str:
        """As it is given to commands."""
        return f"{SCHEME}{self.name}" + (f"@{self.revision}" if self.revision else "")


def repository(text: str) -> Repository:
    """Reads ``USER/NAME`` or ``USER/NAME@REVISION``, with or without ``hf://``.

    Raises:
        DataError: anything else.
    """
    found = _NAME.fullmatch(_START.sub("", text, count=1))
    if found is None or max(map(len, found[1].split("/"))) > 96:
        raise DataError(
            f"{ascii(text[:80])[1:-1]}: no name of a repository; write {SCHEME}USER/NAME or {SCHEME}USER/NAME@REVISION"
        )
    return Repository(found[1], found[2])


def local_folder(model: str | Path) -> Path:
    """The path of a model as given, or where its files lie that were fetched from the hub, or had been before.

    Args:
        model: a path, or ``hf://USER/NAME[@REVISION]``. The cache and the token are those of huggingface_hub.

    Raises:
        DataError: a bad name; no such repository or revision; not reachable, and not fetched before; no export.
    """
    if not _START.match(str(model)):
        return Path(model)
    wanted = repository(str(model))
    from huggingface_hub import HfApi, snapshot_download  # half a second, which local folders need not wait for

    with _in_one_line(wanted):
        folder = Path(snapshot_download(wanted.name, revision=wanted.revision, allow_patterns=list(FILES)))
        missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
        if missing:
            files = HfApi().list_repo_files(wanted.name, revision=folder.name)
            pickles = [name for name in files if _PICKLES.search(name)]
            why = f"; it holds pickles ({pickles[0]}), which are not read" if pickles and WEIGHTS in missing else ""
            raise DataError(
                f"{wanted.address}: holds no model of this project, {missing[0]} is missing{why}; "
                "`export RUN --push USER/NAME` makes one"
            )
    return folder


def push(folder: Path, target: Repository) -> str:
    """Sends the files of an export as one commit; makes the repository, private, where there is none.

    Args:
        folder: of the export.
        target: without a revision.

    Returns:
        The address with the commit.

    Raises:
        DataError: not reachable, not logged in, not allowed.
    """
    from huggingface_hub import HfApi  # see above

    api = HfApi()
    with _in_one_line(target, sending=True):
        api.create_repo(target.name, private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=target.name,
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message="Upload a model of face-voice association",
        )
    return target._replace(revision=commit.oid).address


def check_target(text: str) -> Repository:
    """The repository of ``--push``.

    Raises:
        DataError: a bad name, or one with a revision.
    """
    target = repository(text)
    if target.revision is not None:
        raise DataError(f"--push {text}: a revision cannot be chosen, a commit makes one; write {target.name}")
    return target


@contextmanager
def _in_one_line(wanted: Repository, sending: bool = False) -> Iterator[None]:
    """What huggingface_hub raises, as one line with the way out."""
    from huggingface_hub import errors  # see above

    try:
        yield
    except DataError:
        raise
    except errors.GatedRepoError as error:
        raise DataError(f"{wanted.address}: its owner gives access on request; ask for it, then {LOG_IN}") from error
    except errors.RevisionNotFoundError as error:
        raise DataError(f"{wanted.address}: the repository has no such branch, tag or commit") from error
    except errors.RepositoryNotFoundError as error:
        raise DataError(f"{wanted.address}: no such repository, or it is private; check the name, {LOG_IN}") from error
    except Exception as error:
        line = _line(error, sending)
        if line is None:
            raise
        raise DataError(f"{wanted.address}: {line}") from error


def _line(error: BaseException, sending: bool) -> str | None:
    """What went wrong between here and the hub; None for an error of another kind."""
    from huggingface_hub import errors  # see above

    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    for cause in reversed(causes):
        if isinstance(cause, errors.HfHubHTTPError):
            status = getattr(cause.response, "status_code", 0)
            if status in (401, 403):
                return (
                    f"the hub refuses this ({status}); {LOG_IN}, with a token that may {'write' if sending else 'read'}"
                )
            return f"the hub answered {status}, {one_line(cause, 120)}; try again later"
    offline = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)
    if any(isinstance(cause, offline) or type(cause).__module__.partition(".")[0] in _HTTP for cause in causes):
        if sending:
            return "the hub cannot be reached from here; push from a machine with a connection"
        return (
            "the hub cannot be reached from here, and the files were not fetched before; on another machine get "
            f"{WEIGHTS} and {CONFIG} of it, put both into one folder here, and name that folder in its place"
        )
    return None
