#!/usr/bin/env bash
# HopX's Python client: after an edit in a copied folder the hash stays the same, and the new files are not uploaded.
# Needs: bash, python3 with venv. No root, no account; the server is a stand-in of 40 lines.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv py
py/bin/pip install --quiet hopx-ai==0.5.0 aiohttp==3.14.5 httpx==0.28.1 pydantic==2.14.4 websockets==17.4

# The stand-in answers the requests of a template build. As the protocol means it, an archive whose hash it has is not
# asked for again. It notes each hash and each upload.
cat > server.py <<'EOF'
import io, json, tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

known = {}

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def answer(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        if "/logs" in self.path:
            self.answer({"logs": "", "offset": 0, "status": "active", "complete": True})
        elif "/build/" in self.path:
            self.answer({"build_id": "1", "template_id": "1", "status": "active", "progress": 100,
                         "started_at": "2026-01-01T00:00:00Z"})
        else:
            self.answer({"id": "1", "template_id": "1", "name": "n", "status": "active", "is_active": True})
    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "upload-link" in self.path:
            key = sent["files_hash"]
            if key in known:
                self.answer({"present": True})
            else:
                url = f"http://127.0.0.1:{self.server.server_port}/upload/{key}"
                self.answer({"present": False, "upload_url": url, "expires_at": "2099-01-01T00:00:00Z"})
        else:
            key = next(step["filesHash"] for step in sent["steps"] if step["type"] == "COPY")
            with open("builds.txt", "a") as file:
                file.write(f"{key[:8]} {known[key]}\n")
            self.answer({"build_id": "1", "template_id": "1", "status": "building", "logs_url": "/v1/templates/build/1/logs"})
    def do_PUT(self):
        key = self.path.rsplit("/", 1)[1]
        with tarfile.open(fileobj=io.BytesIO(self.rfile.read(int(self.headers["Content-Length"])))) as archive:
            known[key] = archive.extractfile(next(m for m in archive if m.isfile())).read().decode().strip()
        self.answer({})

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open("port", "w") as file:
    file.write(str(server.server_port))
server.serve_forever()
EOF
python3 server.py &
server=$!
trap 'kill $server; wait $server 2> /dev/null || true; rm -rf "$work"' EXIT
until [ -s port ]; do kill -0 $server; sleep 0.1; done

cat > build.py <<'EOF'
import asyncio, os, sys
from hopx_ai.template import BuildOptions, Template

def quiet(*args): pass

async def main():
    template = Template().from_python_image("3.12").copy(sys.argv[1], "/srv/")
    await Template.build(template, BuildOptions(
        name="n", api_key="k", base_url="http://127.0.0.1:" + open("port").read(), cpu=1, memory=1024, disk_gb=5,
        context_path=os.getcwd(), on_log=quiet, on_progress=quiet))

asyncio.run(main())
EOF
mkdir app
for source in app/main.py app/ 'app/**'; do
    for text in old new; do
        echo "$text" > app/main.py
        py/bin/python build.py "$source" > log 2>&1 || { cat log; exit 1; }
    done
    paste -d' ' <(printf '%-12s' "$source") <(tail -n 2 builds.txt | awk '
        NR == 1 { hash = $1; first = $2 }
        NR == 2 { print (hash == $1 ? "the same hash" : "another hash "), "|", first, "then", $2 }')
done > table

cat <<EOF
Version: hopx-ai $(py/bin/python -c 'from importlib.metadata import version; print(version("hopx-ai"))')

Each source of copy(SOURCE, "/srv/") is built twice: with "old" in app/main.py, then with "new".

Expected: the second build has another hash and gets the new file. The docstring of copy() names folders like "src/"
as sources and says that files are uploaded and hashed automatically; the hasher's, with "app/" for an example, says
that it hashes files and metadata. An archive whose hash the server has is not uploaded: that is what the hash is for.

    copy(SOURCE) second build  | what the two builds get
$(sed 's/^/    /' table)

What happens: the hash of a folder covers the words "COPY app/ /srv/" and no file, so every state of the folder has
one hash, and a server that trusts it builds from the first state for ever. A file or a pattern like app/** is hashed
by its content. So a server has to hash what it receives, and to say that it has nothing.
EOF
cat > seen <<'EOF'
app/main.py  another hash  | old then new
app/         the same hash | old then old
app/**       another hash  | old then new
EOF
diff seen table || { echo "CHANGED: this is not what was seen before."; exit 1; }
