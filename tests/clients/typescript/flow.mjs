// The flow of a user of the published TypeScript client. Prints one JSON object with what was seen.
//   node flow.mjs BASE_URL API_KEY CONTEXT_FOLDER
import { readFile } from "node:fs/promises";
import { Sandbox, Template, getLogs, waitForPort } from "@hopx-ai/sdk";

const [baseURL, apiKey, contextPath] = process.argv.slice(2);
const access = { apiKey, baseURL };
const name = "typescript-client";

async function failure(work) {
  try {
    await work();
  } catch (error) {
    return { class: error.constructor.name, message: error.message, requestId: error.requestId ?? null };
  }
  return null;
}

const seen = { logs: [], progress: [] };
const template = new Template("debian:12")
  .aptInstall("python3-minimal")
  .setEnv("GREETING", "hello")
  .setWorkdir("/app")
  .copy("app/", "/app/", { owner: "daemon:daemon", permissions: "0750" })
  .copy("note.txt", "/app/note.txt")
  .runCmd("cat note.txt > copy.txt && echo $GREETING > greeting.txt")
  .setStartCmd("python3 -m http.server 8000", waitForPort(8000));
const size = { cpu: 1, memory: 512, diskGB: 2 };
const result = await Template.build(template, {
  name,
  ...size,
  ...access,
  contextPath,
  onLog: (entry) => seen.logs.push(entry.message),
  onProgress: (percent) => seen.progress.push(percent),
});
seen.ids = [result.buildID, result.templateID];
seen.duration = result.duration;
const whole = await result.getLogs();
seen.whole = { status: whole.status, complete: whole.complete };
seen.rest = (await getLogs(result.templateID, apiKey, whole.offset, baseURL)).logs;
seen.taken = await failure(() =>
  Template.build(new Template("debian:12").runCmd("true"), { name, ...size, ...access }),
);
seen.failed = await failure(() =>
  Template.build(new Template("debian:12").runCmd("echo oh no >&2; exit 3"), {
    name: "typescript-client-fails",
    ...size,
    ...access,
  }),
);

seen.listed = (await Sandbox.listTemplates(access)).map((one) => one.name);
const one = await Sandbox.getTemplate(name, access);
seen.template = { id: one.id, status: one.status, isActive: one.isActive };
seen.health = (await Sandbox.healthCheck(baseURL)).status;

const sandbox = await Sandbox.create({ template: name, timeoutSeconds: 600, ...access });
try {
  const info = await sandbox.getInfo();
  seen.info = { id: info.sandboxId, status: info.status, template: info.templateName };
  seen.id = sandbox.sandboxId;
  seen.running = (await Sandbox.list({ status: "running", ...access })).map((other) => other.sandboxId);
  const inside = await sandbox.commands.run(
    "python3 main.py; cat copy.txt greeting.txt; stat -c '%U %a' main.py; echo $GREETING",
    { workingDir: "/app" },
  );
  seen.inside = { code: inside.exit_code, lines: inside.stdout.trim().split("\n") };
  const bad = await sandbox.commands.run("echo out; echo err >&2; exit 7");
  seen.bad = { code: bad.exit_code, stdout: bad.stdout, stderr: bad.stderr };
  await sandbox.files.write("/workspace/new/file.txt", "häß\n");
  seen.read = await sandbox.files.read("/workspace/new/file.txt");
  const bytes = Buffer.from([...Array(256).keys()]);
  await sandbox.files.writeBytes("/workspace/bytes", bytes);
  seen.bytes = bytes.equals(await sandbox.files.readBytes("/workspace/bytes"));
  await sandbox.files.upload(process.argv[1], "/workspace/up load.mjs");
  const back = await sandbox.files.download("/workspace/up load.mjs");
  seen.upload = back.equals(await readFile(process.argv[1]));
  await sandbox.files.mkdir("/workspace/folder/deep");
  const listed = await sandbox.files.list("/workspace");
  seen.listed_files = Object.fromEntries(listed.map((one) => [one.name, one.isDir]));
  seen.exists = await sandbox.files.exists("/workspace/folder");
  await sandbox.files.remove("/workspace/folder");
  seen.removed = !(await sandbox.files.exists("/workspace/folder"));
  const terminal = await sandbox.terminal.connect();
  sandbox.terminal.resize(terminal, 132, 43);
  sandbox.terminal.sendInput(terminal, "stty size; for i in $(seq 50); do echo line-$i; done; exit 3\n");
  seen.terminal = { printed: "", exit: null };
  for await (const message of sandbox.terminal.output(terminal)) {
    if (message.type === "output") seen.terminal.printed += message.data;
    else if (message.type === "exit") {
      seen.terminal.exit = message.code;
      break;
    }
  }
  seen.missingFile = await failure(() => sandbox.files.read("/workspace/missing"));
  await sandbox.setTimeout(120);
  seen.timeout = (await sandbox.getInfo()).timeoutSeconds;
  const again = await Sandbox.connect(sandbox.sandboxId, apiKey, baseURL);
  seen.connected = (await again.commands.run("echo connected")).stdout;
} finally {
  await sandbox.kill();
}
seen.gone = await failure(() => sandbox.getInfo());
seen.wrongKey = await failure(() => Sandbox.create({ template: name, apiKey: "nonsense", baseURL }));
seen.noTemplate = await failure(() => Sandbox.create({ template: "no-such-template", ...access }));
seen.noSandbox = await failure(() => Sandbox.connect("no-such-sandbox", apiKey, baseURL));
console.log(JSON.stringify(seen));
