// The page: tabs, notices, the key, snippets, keys of the keyboard. What listens is in live.js, what is sent in files.js.

import { Files } from "./files.js";
import { Live } from "./live.js";
import { forbidden } from "./microphone.js";
import { SNIPPETS } from "./snippets.js";

const SAY_MS = 3000;
const $ = (id) => document.getElementById(id);

/** What every part of the page may say or ask for. */
const page = {
  stands: $("state").textContent,
  state(text) { $("state").textContent = page.stands = text; },
  /** Say something for a moment, in place of what stands. */
  say(text) {
    $("state").textContent = text;
    clearTimeout(page.said);
    page.said = setTimeout(() => page.state(page.stands), SAY_MS);
  },
  notice(text = "") {
    $("notice").textContent = text;
    $("notice").hidden = !text;
  },
  async copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      page.say("Copied.");
    } catch {
      page.notice("The browser does not let this page copy; select the text instead.");
    }
  },
  get key() { return sessionStorage.getItem("key"); },
  /** The server takes no session without a key; `go` is called once there is one. */
  askKey(text, go) {
    sessionStorage.removeItem("key");
    page.notice(text);
    page.withKey = go;
    $("key-form").hidden = false;
    $("key").focus();
  },
};

const live = new Live(page);
const files = new Files(page);

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value.trim());
  $("key").value = "";
  $("key-form").hidden = true;
  page.notice();
  page.withKey();
});

const tabs = [$("live-tab"), $("files-tab")];
function show(chosen) {
  for (const tab of tabs) {
    tab.setAttribute("aria-selected", tab === chosen);
    tab.tabIndex = tab === chosen ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
  }
  live.timeline.draw(); // it has no width while it is hidden
}
for (const tab of tabs) {
  tab.onclick = () => show(tab);
  tab.addEventListener("keydown", ({ key }) => {
    if (key !== "ArrowLeft" && key !== "ArrowRight") return;
    const other = tabs.find((one) => one !== tab);
    show(other);
    other.focus();
  });
}

// Files may be dropped anywhere; a browser would leave the page for one that is dropped elsewhere.
const carries = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
addEventListener("drop", (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  show($("files-tab"));
  files.add(event.dataTransfer.files);
});

addEventListener("keydown", (event) => {
  const action = event.ctrlKey && { Enter: () => live.toggle(), m: () => live.mute(), ".": () => live.flush() }[event.key];
  if (!action || $("live").hidden) return;
  event.preventDefault();
  action();
});

$("snippet").append(...Object.keys(SNIPPETS).map((name) => new Option(name)));
const explain = () => { $("code").textContent = SNIPPETS[$("snippet").value]; };
$("snippet").onchange = explain;
$("copy-snippet").onclick = () => page.copy($("code").textContent);
explain();
page.notice(forbidden());
