// What a user of the published TypeScript client does in a sandbox. Prints one JSON object with what was seen.
//   node live.mjs BASE_URL API_KEY TEMPLATE
// TEMPLATE has Python, and neither Node.js nor ipykernel.
import { Sandbox } from "@hopx-ai/sdk";

const [baseURL, apiKey, template] = process.argv.slice(2);
const access = { apiKey, baseURL };

async function failure(work) {
  try {
    await work();
  } catch (error) {
    return { class: error.constructor.name, message: error.message, code: error.code ?? null };
  }
  return null;
}

const outcome = ({ success, stdout, stderr, exit_code, result }) => ({ success, stdout, stderr, exit_code, result });

async function until(condition) {
  for (let tries = 0; tries < 100; tries++) {
    if (await condition()) return true;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return false;
}

const seen = {};
const sandbox = await Sandbox.create({ template, envVars: { MINE: "yes" }, timeoutSeconds: 600, ...access });
try {
  seen.code = outcome(await sandbox.runCode("import os\nprint(os.environ['MINE'], os.environ['MORE'])\n6 * 7", { env: { MORE: "too" } }));
  seen.fails = outcome(await sandbox.runCode("print('before')\n1 / 0"));
  seen.late = outcome(await sandbox.runCode("import time; time.sleep(60)", { timeout: 1 }));
  seen.bash = outcome(await sandbox.runCode("echo $MINE; pwd; exit 3", { language: "bash", workingDir: "/tmp" }));
  seen.lacking = outcome(await sandbox.runCode("console.log(1)", { language: "javascript" }));
  seen.unknown = await failure(() => sandbox.runCode("x", { language: "cobol" }));
  seen.ipython = outcome(await sandbox.runIpython("1 + 1"));
  seen.kernels = await sandbox.getJupyterSessions();

  const frames = [];
  for await (const frame of sandbox.runCodeStream("import sys\nfor i in range(100): print(i, flush=True)\nprint('e', file=sys.stderr)")) {
    frames.push(frame);
  }
  const text = (type) => frames.filter((frame) => frame.type === type).map((frame) => frame.data).join("");
  seen.stream = { stdout: text("stdout"), stderr: text("stderr"), result: frames.find((frame) => frame.type === "result")?.exit_code, last: frames.at(-1) };

  const job = await sandbox.runCodeBackground("import time; time.sleep(300)", { name: "sleeper" });
  const find = async (id) => (await sandbox.listProcesses()).find((one) => one.process_id === id);
  seen.job = { started: job.status, listed: (await find(job.process_id))?.status, name: (await find(job.process_id))?.name };
  await sandbox.killProcess(job.process_id);
  seen.killed = await until(async () => (await find(job.process_id))?.status !== "running");
  const command = await sandbox.commands.runBackground("echo done > /tmp/job; exit 4");
  seen.command = await until(async () => (await find(command.process_id))?.exit_code === 4);
  seen.noProcess = await failure(() => sandbox.killProcess("proc_unknown"));
  seen.system = (await sandbox.listSystemProcesses()).some((one) => one.pid === 1);

  seen.env = { fresh: (await sandbox.env.getAll()).MINE, path: Boolean(await sandbox.env.get("PATH")) };
  await sandbox.env.set("ONE", "1");
  seen.env.updated = (await sandbox.env.update({ TWO: "2" })).ONE;
  seen.env.inCommands = (await sandbox.commands.run("echo $ONE$TWO")).stdout;
  await sandbox.env.delete("ONE");
  seen.env.deleted = (await sandbox.env.get("ONE")) ?? null;
  await sandbox.env.setAll({ ONLY: "this" });
  seen.env.replaced = (await sandbox.commands.run("echo $TWO-$ONLY; which sh")).stdout;

  seen.cache = { stats: "cache" in (await sandbox.cache.stats()), cleared: (await sandbox.cache.clear()).message };
  seen.metrics = (await sandbox.getMetricsSnapshot()).total_executions;
  seen.agent = Boolean((await sandbox.getAgentInfo()).agent);
  seen.health = { status: (await sandbox.getHealth()).status, healthy: await sandbox.isHealthy() };
  await sandbox.ensureHealthy();
  seen.expiry = (await sandbox.getExpiryInfo()).hasTimeout;
  seen.desktop = await failure(() => sandbox.desktop.getVncInfo());

  await sandbox.commands.run("sleep 1000 & echo kept > /root/kept", {});
  await sandbox.pause();
  seen.paused = (await sandbox.getInfo()).status;
  await sandbox.resume();
  seen.resumed = { status: (await sandbox.getInfo()).status, file: (await sandbox.commands.run("cat /root/kept")).stdout };
  const walked = [];
  for await (const one of Sandbox.iter(access)) walked.push(one.sandboxId);
  seen.walked = walked.includes(sandbox.sandboxId);
} finally {
  await sandbox.kill();
}
console.log(JSON.stringify(seen));
