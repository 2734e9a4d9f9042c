"""A hub of models on this machine: what huggingface_hub asks for to make, fill, list and read repositories."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_right"


class Hub(ThreadingHTTPServer):
    """Repositories in memory.

    Attributes:
        commits: files by path, by commit, by repository, oldest commit first.
        private: whether a repository was made private.
        asked: method and path of all requests.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: dict[str, bool] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        """Adds files to a repository; the commit."""
        before = self.commits.setdefault(name, {})
        content = {**(list(before.values())[-1] if before else {}), **files}
        sha = hashlib.sha1(repr((len(before), sorted(content.items()))).encode()).hexdigest()
        before[sha] = content
        return sha


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, content: Any = b"", status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self) -> tuple[list[str], bytes]:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        return path.strip("/").split("/"), self._body()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _allowed(self) -> bool:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid username or password."}, 401)
            return False
        return True

    def do_POST(self) -> None:
        parts, body = self._begin()
        if parts == ["api", "validate-yaml"]:
            return self._answer({"errors": [], "warnings": []})
        if not self._allowed():
            return None
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.server.commits:
                return self._answer({"url": f"{self.server.url}/{name}"}, 409)
            self.server.private[name] = bool(asked.get("private") or asked.get("visibility") == "private")
            self.server.commit(name, {".gitattributes": b""})
            return self._answer({"url": f"{self.server.url}/{name}"})
        if parts[-3:] == ["lfs", "objects", "batch"]:
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self._answer({"transfer": "basic", "objects": objects})
        name, action = "/".join(parts[2:4]), parts[4]
        if action == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                 "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]  # fmt: skip
            return self._answer({"files": files})
        files = {}
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        sha = self.server.commit(name, files)
        return self._answer({"commitUrl": f"{self.server.url}/{name}/commit/{sha}", "commitOid": sha})

    def do_PUT(self) -> None:
        parts, body = self._begin()
        assert hashlib.sha256(body).hexdigest() == parts[1]
        self.server.objects[parts[1]] = body
        self._answer()

    def do_GET(self) -> None:
        parts, _ = self._begin()
        api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if api else parts[:2])
        rest = parts[4:] if api else parts[2:]
        commits = self.server.commits.get(name)
        if commits is None or (self.server.private.get(name) and not self.headers.get("Authorization")):
            return self._answer({"error": "not found"}, 401, X_Error_Code="RepoNotFound")
        revision = rest[1] if len(rest) > 1 else "main"
        sha = list(commits)[-1] if revision == "main" else revision
        if sha not in commits:
            return self._answer({"error": "no revision"}, 404, X_Error_Code="RevisionNotFound")
        files = commits[sha]
        if rest[:1] == ["resolve"]:
            content = files["/".join(rest[2:])]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self._answer(content, X_Repo_Commit=sha, ETag=etag)
        if rest[:1] == ["tree"]:
            return self._answer(
                [{"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                 for path, content in files.items()]
            )  # fmt: skip
        siblings = [{"rfilename": path} for path in files]
        return self._answer({"id": name, "sha": sha, "siblings": siblings, "private": False, "tags": []})

    do_HEAD = do_GET


@contextmanager
def started() -> Iterator[Hub]:
    """A running hub."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
