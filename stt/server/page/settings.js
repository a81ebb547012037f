// What the user has set: it stays in this browser.

const form = document.getElementById("settings");
const SWITCHES = ["echoCancellation", "noiseSuppression", "autoGainControl"];
const SINGLE = ["language", "end_of_turn", "eagerness", "end_of_turn_ms"];
const ASKED = [...SINGLE, "terms"];

const stored = { echoCancellation: true, noiseSuppression: false, autoGainControl: true, ...JSON.parse(localStorage.getItem("stt") ?? "{}") };
for (const name of SWITCHES) form[name].checked = stored[name];
for (const name of ASKED) form[name].value = stored[name] ?? "";

/** How the microphone is to be opened. */
export const sound = () => ({ device: form.device.value, ...Object.fromEntries(SWITCHES.map((name) => [name, form[name].checked])) });

/** What is asked of the server, by its names; "" and []: as it does by itself. */
export const asked = () => ({
  ...Object.fromEntries(SINGLE.map((name) => [name, form[name].value.trim()])),
  terms: form.terms.value.split("\n").map((term) => term.trim()).filter(Boolean),
});

/** Offer these microphones, and keep the one that was chosen if it is there. */
export function offer(devices) {
  const chosen = form.device.value || stored.device || "";
  const options = devices.map((one, i) => new Option(one.label || `Microphone ${i + 1}`, one.deviceId));
  form.device.replaceChildren(new Option("Default", ""), ...options);
  form.device.value = options.some((one) => one.value === chosen) ? chosen : "";
}

/** `changed("sound" | "asked")` is called after a change that can work. */
export function watch(changed) {
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", ({ target }) => {
    if (!form.reportValidity()) return;
    localStorage.setItem("stt", JSON.stringify({ ...sound(), ...asked(), terms: form.terms.value }));
    changed(ASKED.includes(target.name) ? "asked" : "sound");
  });
}
