// One file on its way to the server and through it (POST /v1/audio/transcriptions, docs/clients.md).
//
// The browser reads the file from the disk as it sends it, and the answer comes turn by turn while the file is heard.

import { http } from "./place.js";

/**
 * Send a file. `on.sent(share)` while it goes, `on.turn(turn)` for each turn, then one of `on.done(warning)` and
 * `on.failed(code, text)`. Returns a function that calls it off; then nothing more comes.
 */
export function upload(file, { language, terms }, key, on) {
  const form = new FormData();
  form.set("model", "whisper-1");
  form.set("response_format", "verbose_json");
  form.set("stream", "true");
  for (const kind of ["segment", "word"]) form.append("timestamp_granularities[]", kind);
  if (language) form.set("language", language);
  for (const term of terms) form.append("keywords[]", term);
  form.set("file", file);

  const request = new XMLHttpRequest(); // fetch does not tell how much was sent
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  request.open("POST", `${http}/v1/audio/transcriptions`);
  for (const name in headers) request.setRequestHeader(name, headers[name]);
  let read = 0, turns = 0, done;
  const take = () => {
    if (request.status !== 200) return;
    for (let end; (end = request.responseText.indexOf("\n\n", read)) >= 0; read = end + 2) {
      const message = JSON.parse(request.responseText.slice(read, end).replace(/^data: /, ""));
      if (message.type === "transcript.text.segment") on.turn(turn(message, turns++));
      if (message.type === "transcript.text.done") done = () => on.done(message.warning);
      if (message.error) done = () => on.failed(message.error.code, message.error.message);
    }
  };
  request.upload.onprogress = ({ loaded, total }) => on.sent(loaded / total);
  request.onprogress = take;
  request.onerror = () => on.failed("lost", "The connection to the server was lost, or this cannot be read (a folder?).");
  request.onload = () => {
    take();
    if (done) return done();
    if (request.status === 200) return request.onerror();
    on.failed(...refusal(request.status, request.responseText));
  };
  let off = false;
  refused(file, headers).then((why) => {
    if (off) return;
    if (why) on.failed(...why);
    else request.send(form);
  }, () => { if (!off) request.onerror(); });
  return () => { off = true; request.onload = request.onerror = request.onprogress = request.upload.onprogress = null; request.abort(); };
}

/** Why the server would not take it; asked first, for a server that refuses a long body closes before it is read. */
async function refused(file, headers) {
  const models = await fetch(`${http}/v1/models`, { headers });
  if (!models.ok) return refusal(models.status, await models.text());
  const { status, sessions, max_sessions, max_upload_bytes } = await (await fetch(`${http}/ready`)).json();
  if (status !== "ready") return ["busy", `The server is ${status}`];
  if (sessions >= max_sessions) return ["busy", `The server is full: ${sessions} of ${max_sessions} sessions are taken`];
  if (file.size > max_upload_bytes) return ["too_large", `The server takes at most ${Math.floor(max_upload_bytes / 2 ** 20)} MiB.`];
}

/** A turn in the shape of the native protocol's finals: words carry the white space before them. */
function turn({ start, end, text, words = [] }, number) {
  let at = 0;
  const whole = words.map(({ word, ...more }) => {
    const next = text.indexOf(word, at) + word.length;
    const piece = text.slice(at, next);
    at = next;
    return { text: piece, ...more };
  });
  return { turn: number, start, end, text, words: whole };
}

function refusal(status, body) {
  let error;
  try { error = JSON.parse(body).error; } catch { /* a proxy's page */ }
  const text = error?.message ?? `The server answered with HTTP ${status}.`;
  switch (status) {
    case 401: return ["unauthorized", "This server wants an API key."];
    case 404: case 405: return ["no_files", "This server takes no files: start it with openai among its --dialects."];
    case 503: return ["busy", text];
    default: return [error?.code ?? "refused", text];
  }
}
