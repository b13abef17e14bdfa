#!/usr/bin/env bash
# E2B's JavaScript client rewrites the quotes, blanks and backslashes of a Dockerfile; its Python client does not.
# Needs: bash, node 20 or newer with npm, python3 with venv. No root, no account, no server.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

npm install --silent --no-audit --no-fund --ignore-scripts --before 2026-11-29 --prefix js e2b@2.51.0
python3 -m venv py
py/bin/pip install --quiet e2b==2.63.0 e2b-dockerfile-utils==0.1.1 wcmatch==11.2 connectrpc==0.12.1 \
    pyqwest==0.12.0 httpx==0.28.1 python-dateutil==4.0.0 protobuf-py==0.6.0

cat > Dockerfile <<'EOF'
FROM debian:12
ENV GREETING="hello world" NAME=x
RUN printf 'a\tb\n'
RUN echo "two  blanks"
RUN ["echo", "it is"]
COPY ["my file", "/srv/"]
RUN <<SCRIPT
echo one
echo two
SCRIPT
EOF
touch 'my file'

cat > read.js <<'EOF'
const { readFileSync } = require('fs')
const { Template } = require('./js/node_modules/e2b')
async function main() {
  const template = Template({ fileContextPath: '.' }).fromDockerfile(readFileSync('Dockerfile', 'utf8'))
  // "false": without the hashes of the copied files.
  const steps = JSON.parse(await Template.toJSON(template, false)).steps
  for (const { type, args } of steps) console.log(JSON.stringify([type, ...args]))
}
main()
EOF
cat > read.py <<'EOF'
import json
from e2b import Template

template = Template(file_context_path=".").from_dockerfile(open("Dockerfile").read())
for step in json.loads(Template.to_json(template))["steps"]:
    print(json.dumps([step["type"], *step["args"]], separators=(",", ":")))
EOF
# Steps that the clients add around the Dockerfile's own (USER and WORKDIR) are left out.
node read.js | grep -v -e '^\["USER"' -e '^\["WORKDIR"' > js.txt
py/bin/python read.py | grep -v -e '^\["USER"' -e '^\["WORKDIR"' > py.txt

echo "Versions: e2b (npm) $(node -p 'require("./js/node_modules/e2b/package.json").version')," \
    "e2b (PyPI) $(py/bin/python -c 'from importlib.metadata import version; print(version("e2b"))'), node $(node --version)"
echo
echo "A Dockerfile without errors:"
sed 's/^/    /' Dockerfile
cat <<'EOF'

Expected: both clients make steps of what Docker would run. The Dockerfile reference says of ENV that quotes and backslashes
may be used to put blanks into a value; of the shell form of RUN that the text goes to the shell as it is; of the
exec form that it is a JSON array and starts no shell; of COPY that its JSON form is for paths with blanks; of
here-documents that their lines are the script.

Steps of the Python client:
EOF
sed 's/^/    /' py.txt
echo
echo "Steps of the JavaScript client:"
sed 's/^/    /' js.txt

cat > py.seen <<'EOF'
["ENV","GREETING","hello world","NAME","x"]
["RUN","printf 'a\\tb\\n'"]
["RUN","echo \"two  blanks\""]
["RUN","echo 'it is'"]
["COPY","my file","/srv/","",""]
["RUN","echo one\necho two\n"]
EOF
cat > js.seen <<'EOF'
["ENV","GREETING","\"hello","NAME","x"]
["RUN","printf 'atbn'"]
["RUN","echo \"two blanks\""]
["RUN","[\"echo\", \"it is\"]"]
["COPY","[\"my","\"/srv/\"]","",""]
["COPY","file\",","\"/srv/\"]","",""]
["RUN","<<SCRIPT echo one echo two SCRIPT"]
EOF
cat <<'EOF'

What happens: the value of ENV is cut at its first blank and keeps the opening quote; \t and \n lose their
backslashes and two blanks become one, inside quotes too; JSON forms stay JSON text; a script becomes one line.
None of it is an error, so the first sign is a template that behaves differently.
EOF
diff py.seen py.txt && diff js.seen js.txt || { echo "CHANGED: this is not what was seen before."; exit 1; }
