// The page: what the controls do, and who hears of what. Each concern has a module of its own.

import { Microphone, devices, forbidden } from "./microphone.js";
import { save } from "./save.js";
import { Session } from "./session.js";
import { SNIPPETS } from "./snippets.js";
import { Timeline } from "./timeline.js";
import { Transcript } from "./transcript.js";

const $ = (id) => document.getElementById(id);
const form = $("settings");
const transcript = new Transcript($("turns"), $("empty"), $("spoken"));
const timeline = new Timeline($("timeline"));
let session, last, microphone, busy;

// Settings stay in this browser; the key stays in this tab.
const SWITCHES = ["echoCancellation", "noiseSuppression", "autoGainControl"];
const stored = { echoCancellation: true, noiseSuppression: false, autoGainControl: true, ...JSON.parse(localStorage.getItem("stt") ?? "{}") };
for (const name of SWITCHES) form[name].checked = stored[name];
for (const name of ["language", "end_of_turn_ms"]) form[name].value = stored[name] ?? "";
const sound = () => ({ device: form.device.value, ...Object.fromEntries(SWITCHES.map((name) => [name, form[name].checked])) });
const asked = () => ({ language: form.language.value.trim(), end_of_turn_ms: form.end_of_turn_ms.value });

function notice(text = "") {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

const on = {
  state: (text) => { $("state").textContent = text; },
  event(message) {
    if (message.error) notice(message.error);
    transcript.take(message);
    timeline.take(message);
    if (message.late_s === undefined || message.text === undefined) return;
    $(message.isFinal ? "final-latency" : "interim-latency").textContent = `${message.late_s.toFixed(2)} s`;
  },
  async failed(code, text) {
    await stop();
    notice(text);
    on.state("Not listening.");
    if (code !== "unauthorized") return;
    sessionStorage.removeItem("key");
    $("key-form").hidden = false;
    $("key").focus();
  },
};

async function openMicrophone() {
  microphone = new Microphone((pcm, peak) => {
    $("level").value = peak;
    $("clipping").hidden = peak < 0.99;
    session?.feed(pcm);
    if (session) timeline.level(session.now(), peak);
  }, async (text) => { await stop(); notice(text); });
  return microphone.open(sound());
}

async function start() {
  notice(forbidden());
  if (forbidden()) return;
  on.state("Opening the microphone…");
  let rate;
  try {
    rate = await openMicrophone();
  } catch (error) {
    on.state("Not listening.");
    return notice(error.message);
  }
  last = session = new Session(rate, asked(), sessionStorage.getItem("key"), last, on);
  $("listen").textContent = "Stop";
  $("flush").disabled = false;
  await list();
}

async function stop() {
  await microphone?.close();
  microphone = undefined;
  const ending = session;
  session = undefined;
  $("listen").textContent = "Start listening";
  $("flush").disabled = true;
  $("level").value = 0;
  $("clipping").hidden = true;
  if (ending && !ending.stopped) {
    const patience = setTimeout(() => ending.stop(), 30000);
    on.state("Waiting for the last words…");
    if (ending.socket.readyState > WebSocket.OPEN) ending.stop();
    else await ending.finish();
    clearTimeout(patience);
  }
}

async function toggle() {
  if (busy) return;
  busy = true;
  try { await (session ? stop() : start()); } finally { busy = false; }
}

async function list() {
  const chosen = form.device.value || stored.device || "";
  const options = (await devices()).map((one, i) => new Option(one.label || `Microphone ${i + 1}`, one.deviceId));
  form.device.replaceChildren(new Option("Default", ""), ...options);
  form.device.value = options.some((one) => one.value === chosen) ? chosen : "";
}

form.addEventListener("change", async ({ target }) => {
  if (!form.reportValidity()) return;
  localStorage.setItem("stt", JSON.stringify({ ...sound(), ...asked() }));
  if (!session) return;
  if (target.name in asked()) return session.configure(asked());
  await microphone.close(); // the session goes on with the other device
  try {
    if ((await openMicrophone()) !== session.rate) { await stop(); await start(); }
  } catch (error) {
    await stop();
    notice(error.message);
  }
});
form.addEventListener("submit", (event) => event.preventDefault());
$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value.trim());
  $("key").value = "";
  $("key-form").hidden = true;
  await toggle();
});
$("listen").addEventListener("click", toggle);
$("flush").addEventListener("click", () => session?.command({ type: "flush" }));
$("clear").addEventListener("click", () => transcript.clear());
$("save").addEventListener("click", () => save(transcript.turns, $("format").value));
async function copy(text) {
  try { await navigator.clipboard.writeText(text); on.state("Copied."); } catch { notice("The browser does not let this page copy; select the text instead."); }
}
$("copy").addEventListener("click", () => copy(transcript.turns.map((turn) => turn.text).join("\n")));
$("copy-snippet").addEventListener("click", () => copy($("code").textContent));
$("snippet").append(...Object.keys(SNIPPETS).map((name) => new Option(name)));
const explain = () => { $("code").textContent = SNIPPETS[$("snippet").value]; };
$("snippet").addEventListener("change", explain);
document.addEventListener("keydown", (event) => {
  if (!event.ctrlKey) return;
  if (event.key === "Enter") toggle();
  else if (event.key === ".") session?.command({ type: "flush" });
});
navigator.mediaDevices?.addEventListener("devicechange", list);
addEventListener("resize", () => timeline.draw());
explain();
list();
notice(forbidden());
