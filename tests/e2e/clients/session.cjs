// One session with either of the official TypeScript clients. Takes {url, token, mode, steps: [[method, params, options]]}
// as JSON in its only argument and prints what the client saw: {version, outcomes}, or {refused} if it could not connect.

// What the person and the model behind the client say.
const ELICITED = { action: "accept", content: { name: "green" } };
const SAMPLED = { role: "assistant", model: "m", content: { type: "text", text: "yes" } };
const CAPABILITIES = { elicitation: {}, sampling: {}, roots: { listChanged: true } };
const ROOTS = { roots: [{ uri: "file:///work", name: "work" }] };
const INFO = { name: "agent", version: "1.0.0" };

// The newest legacy revision is all that version 1 speaks; version 2 negotiates.
function version1() {
  const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const types = require("@modelcontextprotocol/sdk/types.js");
  const client = new Client(INFO, { capabilities: CAPABILITIES });
  client.setRequestHandler(types.ElicitRequestSchema, () => ELICITED);
  client.setRequestHandler(types.CreateMessageRequestSchema, () => SAMPLED);
  client.setRequestHandler(types.ListRootsRequestSchema, () => ROOTS);
  const call = (method, params, options) =>
    method === "callTool" ? client.callTool(params, undefined, options) : invoke(client, method, params, options);
  return { client, call, Transport: StreamableHTTPClientTransport };
}

function version2(mode) {
  const { Client, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");
  const client = new Client(INFO, { capabilities: CAPABILITIES, versionNegotiation: { mode } });
  client.setRequestHandler("elicitation/create", () => ELICITED);
  client.setRequestHandler("sampling/createMessage", () => SAMPLED);
  client.setRequestHandler("roots/list", () => ROOTS);
  const call = (method, params, options) => invoke(client, method, params, options);
  return { client, call, Transport: StreamableHTTPClientTransport };
}

const invoke = (client, method, params, options) =>
  method === "ping" ? client.ping(options) : client[method](params, options);

async function outcome(call, [method, params = {}, { abortAfter, onStep } = {}]) {
  const steps = [];
  const options = {
    signal: abortAfter === undefined ? undefined : AbortSignal.timeout(abortAfter),
    onprogress: (progress) => {
      steps.push(progress.progress);
      if (onStep) call("callTool", { name: onStep, arguments: {} }, {});
    },
  };
  try {
    return { steps, result: await call(method, params, options) };
  } catch (error) {
    return { steps, error: { type: error.constructor.name, code: error.code, data: error.data, message: error.message } };
  }
}

// On a busy machine a decision may miss its deadline, which is a refusal (503): sent again.
async function patient(...request) {
  const response = await fetch(...request);
  return response.status === 503 ? fetch(...request) : response;
}

async function main({ url, token, mode, steps }) {
  const { client, call, Transport } = mode === "sdk" ? version1() : version2(mode);
  const transport = new Transport(new URL(url), { fetch: patient, requestInit: { headers: { authorization: `Bearer ${token}` } } });
  try {
    await client.connect(transport);
  } catch (error) {
    console.log(JSON.stringify({ refused: { type: error.constructor.name, message: error.message } }));
    return;
  }
  const version = transport.protocolVersion ?? client.getNegotiatedProtocolVersion();
  const outcomes = [];
  for (const step of steps) outcomes.push(await outcome(call, step));
  await transport.terminateSession();
  await client.close();
  console.log(JSON.stringify({ version, outcomes }));
}

main(JSON.parse(process.argv[2])).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
