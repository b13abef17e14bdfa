#!/usr/bin/env bash
# E2B's JavaScript client: "node_modules" in .dockerignore keeps nothing of it out of the upload, and "!" re-includes nothing.
# Needs: bash, node 20 or newer with npm, python3 with venv. No root, no account; the server is a stand-in of 30 lines.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

npm install --silent --no-audit --no-fund --ignore-scripts --before 2026-11-29 --prefix js e2b@2.51.0
python3 -m venv py
py/bin/pip install --quiet e2b==2.63.0 e2b-dockerfile-utils==0.1.1 wcmatch==11.2 connectrpc==0.12.1 \
    pyqwest==0.12.0 httpx==0.28.1 python-dateutil==4.0.0 protobuf-py==0.6.0

mkdir -p context/node_modules/left context/src
echo 1 > context/node_modules/left/index.js
echo 2 > context/src/main.js
echo 3 > context/src/debug.log
echo 4 > context/src/wanted.log
printf 'node_modules\n**/*.log\n!src/wanted.log\n' > context/.dockerignore

# The stand-in answers the requests of a template build and says which files the uploaded archive holds.
cat > server.py <<'EOF'
import io, json, re, sys, tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data
    def answer(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        if "/files/" in self.path:
            self.answer(201, {"present": False, "url": f"http://127.0.0.1:{self.server.server_port}/upload"})
        else:
            self.answer(200, {"status": "ready", "logs": [], "logEntries": [], "templateID": "t", "buildID": "b"})
    def do_POST(self):
        self.body()
        self.answer(202, {"templateID": "t", "buildID": "b", "public": False, "names": ["n"], "tags": [], "aliases": ["n"]})
    def do_PUT(self):
        with tarfile.open(fileobj=io.BytesIO(self.body())) as archive:
            names = sorted(re.sub(r"^\./", "", m.name) for m in archive if m.isfile())
        with open("uploaded.txt", "w") as file:
            file.write("\n".join(names) + "\n")
        self.answer(200, {})

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open("port", "w") as file:
    file.write(str(server.server_port))
server.serve_forever()
EOF
python3 server.py &
server=$!
trap 'kill $server; wait $server 2> /dev/null || true; rm -rf "$work"' EXIT
until [ -s port ]; do kill -0 $server; sleep 0.1; done

export E2B_API_URL=http://127.0.0.1:$(< port) E2B_API_KEY=e2b_0000000000000000000000000000000000000000
cat > build.js <<'EOF'
const { Template } = require('./js/node_modules/e2b')
Template.build(Template({ fileContextPath: 'context' }).fromImage('debian:12').copy('.', '/srv'), 'n', {})
EOF
cat > build.py <<'EOF'
from e2b import Template

Template.build(Template(file_context_path="context").from_image("debian:12").copy(".", "/srv"), "n")
EOF
py/bin/python build.py
mv uploaded.txt py.txt
node build.js
mv uploaded.txt js.txt

echo "Versions: e2b (npm) $(node -p 'require("./js/node_modules/e2b/package.json").version')," \
    "e2b (PyPI) $(py/bin/python -c 'from importlib.metadata import version; print(version("e2b"))'), node $(node --version)"
cat <<'EOF'

Files of the build context, besides .dockerignore:
    node_modules/left/index.js  src/main.js  src/debug.log  src/wanted.log
Its .dockerignore:
    node_modules
    **/*.log
    !src/wanted.log

Expected: src/main.js and src/wanted.log are uploaded, nothing below node_modules is. Docker's page on build contexts
says that a pattern that matches a folder excludes the folder with all below it, that a line with "!" makes an
exception, and that the last line that matches decides.
EOF
echo
echo "The Python client uploads:"
sed 's/^/    /' py.txt
echo "The JavaScript client uploads:"
sed 's/^/    /' js.txt
cat <<'EOF'

What happens: the JavaScript client takes the lines for patterns of the "glob" package. There "node_modules" is the
folder's own entry and nothing below it, so all that is installed goes up; "!" has no effect, so a wanted file is
missing.
EOF
printf '%s\n' .dockerignore src/main.js src/wanted.log > py.seen
printf '%s\n' .dockerignore node_modules/left/index.js src/main.js > js.seen
diff py.seen py.txt && diff js.seen js.txt || { echo "CHANGED: this is not what was seen before."; exit 1; }
