"""A server on loopback that speaks as much of the Hugging Face Hub's protocol as a push needs."""

import base64
import hashlib
import http.server
import json
import re

TOKEN = "hf_dummyTokenThatNobodyMaySee"  # noqa: S105


class StandInHub(http.server.ThreadingHTTPServer):
    """Repositories in memory, all datasets or all models.

    Attributes:
        repo_type: "dataset" or "model".
        repos: Name -> {"private": …, "files": {path: bytes}}.
        faults: (method, pattern of the path) -> HTTP status, or "cut" for a connection that is closed unanswered.
        requests: (method, path) of every request.
        sent: Bytes of the large files that were sent.
    """

    daemon_threads = True

    def __init__(self, repo_type):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repo_type = repo_type
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repos, self.blobs, self.faults, self.requests, self.sent, self.commits = {}, {}, {}, [], 0, []
        self.account = {"type": "user", "name": "ada", "orgs": [{"name": "lab", "roleInOrg": "write"}]}
        self.account["auth"] = {"type": "access_token", "accessToken": {"role": "write"}}

    def add(self, repo_id, files, private=False):
        self.repos[repo_id] = {"private": private, "files": dict.fromkeys(files, b"old")}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_any(self):
        hub, path = self.server, self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        hub.requests.append((self.command, path))
        for (method, pattern), fault in hub.faults.items():
            if method == self.command and re.search(pattern, path):
                if fault == "cut":
                    self.close_connection = True
                    return None
                return self.answer(fault, {"error": "the server's\nown words " + "x" * 5000})
        # Storage addresses carry their own signature.
        if not path.startswith("/storage/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials"})
        return self.route(hub, path, body)

    do_GET = do_POST = do_PUT = handle_any  # noqa: N815 # the names that http.server looks for

    def route(self, hub, path, body):
        if path == "/api/whoami-v2":
            return self.answer(200, hub.account)
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            wanted = json.loads(body)
            assert wanted.get("type", "model") == hub.repo_type
            repo_id = f"{wanted['organization']}/{wanted['name']}"
            url = f"{hub.url}/{'datasets/' if hub.repo_type == 'dataset' else ''}{repo_id}"
            if repo_id in hub.repos:
                return self.answer(409, {"error": "exists", "url": url})
            hub.add(repo_id, [".gitattributes"], private=wanted.get("visibility") == "private")
            return self.answer(200, {"url": url})
        if path.startswith("/storage/"):
            assert hashlib.sha256(body).hexdigest() == path.removeprefix("/storage/")
            hub.blobs[path.removeprefix("/storage/")] = body
            hub.sent += len(body)
            return self.answer(200, {})
        where = "/datasets" if hub.repo_type == "dataset" else ""  # as in the address of a repository's page
        match = re.fullmatch(rf"(?:/api/{hub.repo_type}s|{where})/([\w.-]+/[\w-]+)(?:\.git)?(?:/(.+))?", path)
        repo = match and hub.repos.get(match[1])
        if not repo:
            return self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return getattr(self, f"on_{re.sub(r'[^a-z]', '_', match[2] or 'info')}")(hub, match[1], repo, body)

    def on_info(self, hub, repo_id, repo, body):
        files = [{"rfilename": name} for name in repo["files"]]
        self.answer(200, {"id": repo_id, "private": repo["private"], "sha": "0" * 40, "siblings": files})

    on_revision_main = on_info

    def on_tree_main(self, hub, repo_id, repo, body):
        self.answer(200, [{"type": "file", "path": name, "size": 3, "oid": "0" * 40} for name in repo["files"]])

    def on_preupload_main(self, hub, repo_id, repo, body):
        names = [file["path"] for file in json.loads(body)["files"]]
        modes = {name: "lfs" if name.endswith((".parquet", ".png", ".safetensors")) else "regular" for name in names}
        files = [{"path": name, "uploadMode": modes[name], "shouldIgnore": False} for name in names]
        self.answer(200, {"files": files})

    def on_info_lfs_objects_batch(self, hub, repo_id, repo, body):
        objects = json.loads(body)["objects"]
        for item in objects:
            if item["oid"] not in hub.blobs:
                item["actions"] = {"upload": {"href": f"{hub.url}/storage/{item['oid']}"}}
        self.answer(200, {"transfer": "basic", "objects": objects})

    def on_commit_main(self, hub, repo_id, repo, body):
        lines = [json.loads(line) for line in body.splitlines()]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                repo["files"][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo["files"][value["path"]] = hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del repo["files"][value["path"]]
        hub.commits.append(repo_id)
        self.answer(200, {"commitUrl": f"{hub.url}/{repo_id}/commit/1", "commitOid": "1" * 40, "success": True})

    def answer(self, status, content, headers=()):
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **dict(headers),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
