"""What the tests of tracking need: surroundings without a key, wandb's own reader, and a small W&B server."""

import gzip
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from leyden import PROJECT

KEY = "0123456789abcdef0123456789abcdef01234567"  # of the form of a key, and the key to nothing
DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
SHORT = ["fit", "--config", DIGITS, "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "6"]
SHORT += ["--trainer.log_every_n_steps", "2"]
METRICS = """epoch,step,train/loss,train/loss_step,val/acc,val/loss
0,4,,2.5,,
0,9,,,0.5,2.0
0,9,2.25,,,
1,19,,,0.75,1.0
1,19,1.5,,,
"""


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """An environment that has never heard of W&B."""
    home = tmp_path / "home"
    home.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return clean | {"HOME": str(home), "NETRC": str(home / "netrc"), "OMP_NUM_THREADS": "1"}


@cache
def all_records(folder: Path) -> list[dict[str, Any]]:
    """What W&B's files of a run that has ended hold, read by wandb's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return [json.loads(line) for line in lines]


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The records of one kind among them."""
    return [record[kind] for record in all_records(folder) if record["type"] == kind]


def offline_folders(run: Path) -> list[Path]:
    """The folders that `wandb sync` is given, the oldest first."""
    return sorted((run / "wandb").glob("offline-run-*"))


def history(run: Path) -> list[dict[str, Any]]:
    """The rows of a run that W&B holds on disk, of all its parts."""
    return [row["item"] for folder in offline_folders(run) for row in records(folder, "history")]


class WandbServer(BaseHTTPRequestHandler):
    """As much of a W&B server as its client needs to upload one run, and to take it up again."""

    protocol_version = "HTTP/1.1"
    rows: list[dict[str, Any]]
    files: dict[str, bytes]
    upserts: list[dict[str, Any]]

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def answer(self, content: object) -> None:
        """Sends JSON."""
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        """Reads what was sent."""
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

    def do_GET(self) -> None:
        """Answers whether anything is there."""
        self.answer({})

    def do_PUT(self) -> None:
        """Takes a file."""
        self.files[self.path.removeprefix("/upload/")] = self.body()
        self.answer({})

    def do_POST(self) -> None:
        """Takes rows of the history, or answers a question in GraphQL."""
        body = self.body()
        if self.path == "/graphql":
            question = json.loads(body)
            name = re.search(r"(?:query|mutation)\s+(\w+)", question["query"])
            self.answer({"data": self.data(name[1] if name else "", question.get("variables") or {})})
        else:
            if self.path.endswith("/file_stream"):
                chunk = json.loads(body).get("files", {}).get("wandb-history.jsonl")
                if chunk:
                    self.rows[chunk["offset"] :] = [json.loads(row) for row in chunk["content"]]
            self.answer({})

    def data(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question."""
        project = {"id": "project", "name": "leyden", "entity": {"id": "me", "name": "me"}}
        run = {"id": "run", "name": variables.get("name"), "displayName": variables.get("name"), "config": "{}"}
        if name == "Viewer":
            return {"viewer": {"id": "me", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        if name == "UpsertBucket":
            self.upserts.append(variables)
            run |= {"project": project, "historyLineCount": len(self.rows)}
            return {"upsertBucket": {"bucket": run, "inserted": len(self.upserts) == 1}}
        if name == "RunResumeStatus":
            if not self.rows:
                return {"model": project | {"bucket": None}}
            run |= {"summaryMetrics": "{}", "logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]", "tags": []}
            run |= {"historyLineCount": len(self.rows), "historyTail": json.dumps([json.dumps(self.rows[-1])])}
            return {"model": project | {"bucket": run | {"wandbConfig": '{"t": {}}'}}}
        if name == "ArtifactType":
            return {"project": None}
        if name == "CreateArtifact":  # as if it had the content already: artifacts are not uploaded here
            artifact = {"id": "artifact", "state": "COMMITTED", "artifactSequence": {"id": "s", "latestArtifact": None}}
            return {"createArtifact": {"artifact": artifact}}
        if name == "CreateRunFiles":
            address = f"http://127.0.0.1:{self.server.server_port}/upload"  # type: ignore[attr-defined]
            files = [{"name": file, "uploadUrl": f"{address}/{file}"} for file in variables["files"]]
            return {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": files}}
        return {}


@pytest.fixture
def wandb_server() -> Iterator[tuple[str, type[WandbServer]]]:
    """The server's address, and what it has been sent."""
    handler = type("Handler", (WandbServer,), {"rows": [], "files": {}, "upserts": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
        server.shutdown()
