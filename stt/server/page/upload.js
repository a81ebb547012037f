// One file on its way to the server and through it (POST /v1/audio/transcriptions, docs/clients.md).
//
// The browser reads the file from the disk as it sends it, and the answer comes turn by turn while the file is heard.

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
  request.open("POST", "/v1/audio/transcriptions");
  if (key) request.setRequestHeader("authorization", `Bearer ${key}`);
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
  request.onerror = () => on.failed("lost", "The connection to the server was lost.");
  request.onload = () => {
    take();
    if (done) return done();
    if (request.status === 200) return request.onerror();
    on.failed(...refusal(request));
  };
  request.send(form);
  return () => { request.onload = request.onerror = request.onprogress = request.upload.onprogress = null; request.abort(); };
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

function refusal(request) {
  let error;
  try { error = JSON.parse(request.responseText).error; } catch { /* a proxy's page */ }
  const text = error?.message ?? `The server answered with HTTP ${request.status}.`;
  switch (request.status) {
    case 401: return ["unauthorized", "This server wants an API key."];
    case 404: case 405: return ["no_files", "This server takes no files: start it with openai among its --dialects."];
    case 503: return ["busy", text];
    default: return [error?.code ?? "refused", text];
  }
}
