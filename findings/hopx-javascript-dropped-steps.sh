#!/usr/bin/env bash
# HopX's JavaScript client: setUser() and a step's skipCache() never reach the server.
# Needs: bash, node 20 or newer with npm. No root, no account; the server is a stand-in of ten lines.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

npm install --silent --no-audit --no-fund --ignore-scripts --before 2026-11-29 --prefix js @hopx-ai/sdk@0.5.1

cat > build.js <<'EOF'
const { createServer } = require('http')
const { Template, createTemplate } = require('./js/node_modules/@hopx-ai/sdk')
const show = steps => steps.forEach(step => console.log(JSON.stringify(step)))

const template = createTemplate().fromPythonImage('3.12')
  .setEnv('MODE', 'test').setWorkdir('/srv').runCmd('date > built').skipCache().setUser('app').runCmd('whoami > who')
const made = template.getSteps()

// A stand-in: it says which steps the build request has, and that the build is done.
const server = createServer((request, response) => {
  let body = ''
  request.on('data', data => { body += data }).on('end', () => {
    if (request.method === 'POST') {
      show(made)
      console.log('--')
      show(JSON.parse(body).steps)
    }
    response.setHeader('Content-Type', 'application/json')
    response.end(JSON.stringify({ build_id: '1', template_id: '1', id: '1', name: 'n', status: 'active', progress: 100,
      is_active: true, started_at: '2026-01-01T00:00:00Z', logs: '', offset: 0, complete: true }))
  })
}).listen(0, '127.0.0.1', async () => {
  await Template.build(template, { name: 'n', cpu: 1, memory: 1024, diskGB: 5, apiKey: 'k',
    baseURL: `http://127.0.0.1:${server.address().port}`, onLog () {}, onProgress () {} })
  process.exit(0)
})
EOF
node build.js > out
sed '/^--$/,$d' out > made.txt
sed '1,/^--$/d' out > sent.txt

cat <<EOF
Versions: @hopx-ai/sdk $(node -p 'require("./js/node_modules/@hopx-ai/sdk/package.json").version'), node $(node --version)

A template:
    createTemplate().fromPythonImage('3.12')
      .setEnv('MODE', 'test').setWorkdir('/srv').runCmd('date > built').skipCache().setUser('app').runCmd('whoami > who')

Its steps, by getSteps():
$(sed 's/^/    /' made.txt)

Expected: these steps in the build request. The client's own type declarations have setUser(user) on Template and
skipCache on a step, and the service's Python client sends both: {"type": "USER"} and {"skipCache": true}.

Steps of the build request:
$(sed 's/^/    /' sent.txt)

What happens: USER is left out without a word, so the last command and the sandboxes keep the base image's user; no
step says skipCache, so a command that was to run in every build is taken from the cache.
EOF
cat > made.seen <<'EOF'
{"type":"ENV","args":["MODE","test"]}
{"type":"WORKDIR","args":["/srv"]}
{"type":"RUN","args":["date > built"],"skipCache":true}
{"type":"USER","args":["app"]}
{"type":"RUN","args":["whoami > who"]}
EOF
cat > sent.seen <<'EOF'
{"type":"env","key":"MODE","value":"test"}
{"type":"workdir","path":"/srv"}
{"type":"RUN","args":["date > built"]}
{"type":"RUN","args":["whoami > who"]}
EOF
diff made.seen made.txt && diff sent.seen sent.txt || { echo "CHANGED: this is not what was seen before."; exit 1; }
