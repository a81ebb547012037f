"""The Hugging Face hub, as far as downloads need it, on this machine."""

import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class StandIn:
    """Serves files as the hub does, and misbehaves on request."""

    files: dict[str, bytes]
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    """repo -> status and X-Error-Code"""
    lie: dict[str, bytes] = field(default_factory=dict)
    """path -> content sent in place of what was announced"""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, Range)"""

    def __enter__(self):
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                stand_in.asked.append((self.command, self.path, self.headers.get("Range")))
                if self.path.startswith("/api/models/"):
                    self.list_files(self.path.removeprefix("/api/models/").partition("?")[0])
                    return
                repo, _, name = self.path[1:].partition("/resolve/")
                revision, _, name = name.partition("/")
                status, code = stand_in.refuse.get(repo, (0, ""))
                if not status and f"{repo}/{name}" not in stand_in.files:
                    known = any(path.startswith(f"{repo}/") for path in stand_in.files)
                    status, code = 404, "EntryNotFound" if known else "RepoNotFound"
                if status:
                    self.send_response(status)
                    self.send_header("X-Error-Code", code)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                true = stand_in.files[f"{repo}/{name}"]
                sent = stand_in.lie.get(f"{repo}/{name}", true)
                start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(sent) - 1}/{len(sent)}")
                large = name.endswith((".safetensors", ".onnx"))
                blob = hashlib.sha1(b"blob %d\0" % len(true) + true).hexdigest()
                self.send_header("ETag", f'"{hashlib.sha256(true).hexdigest() if large else blob}"')
                self.send_header("X-Repo-Commit", COMMIT if revision == "main" else revision)
                self.send_header("Content-Length", str(len(sent) - start))
                self.end_headers()
                if body:
                    with contextlib.suppress(ConnectionError):  # an interrupted client hangs up
                        self.wfile.write(sent[start:])

            def list_files(self, repo: str) -> None:
                names = [path.removeprefix(f"{repo}/") for path in stand_in.files if path.startswith(f"{repo}/")]
                body = json.dumps({"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]})
                status, code = stand_in.refuse.get(repo, (200, "") if names else (404, "RepoNotFound"))
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def gets(self, name: str) -> list[str | None]:
        """The Range of every GET of a file."""
        return [asked_range for method, path, asked_range in self.asked if method == "GET" and path.endswith(name)]
