"use strict";
// Draw the audio levels of each channel over time, so that a person sees who speaks when.
const LONGEST_BYTES = 60e6;
const STEPS = 900;
const SILENT = 0.01;

function levels(buffer) {
  return Array.from({ length: buffer.numberOfChannels }, (_, n) => {
    const samples = buffer.getChannelData(n);
    const step = Math.max(1, Math.floor(samples.length / STEPS));
    const found = [];
    for (let at = 0; at < samples.length; at += step) {
      let top = 0;
      for (let i = at; i < Math.min(at + step, samples.length); i++) top = Math.max(top, Math.abs(samples[i]));
      found.push(top);
    }
    return found;
  });
}

function draw(canvas, channels, played) {
  const style = getComputedStyle(document.documentElement);
  const width = (canvas.width = canvas.clientWidth * devicePixelRatio);
  const height = (canvas.height = canvas.clientHeight * devicePixelRatio);
  const context = canvas.getContext("2d");
  const row = height / channels.length;
  const scale = 1 / Math.max(0.05, ...channels.flat()); // a quiet call is seen as well as a loud one
  channels.forEach((tops, n) => {
    context.fillStyle = style.getPropertyValue(n ? "--second" : "--first");
    tops.forEach((top, i) => {
      const tall = Math.max(1, top * scale * row * 0.9);
      context.fillRect((i / tops.length) * width, n * row + (row - tall) / 2, Math.max(1, width / tops.length - 1), tall);
    });
  });
  context.fillStyle = style.getPropertyValue("--ink");
  context.fillRect(played * width, 0, Math.max(1, devicePixelRatio), height);
}

function said(channels, seconds) {
  return channels
    .map((tops, n) => {
      const spoken = tops.filter((top) => top > SILENT).length / tops.length;
      return `channel ${n + 1}: sound in ${Math.round(spoken * 100)}% of ${Math.round(seconds)} s`;
    })
    .join("; ");
}

async function show(place) {
  const box = place.querySelector(".levels");
  const audio = place.querySelector("audio");
  const tell = (text) => {
    const line = document.createElement("p");
    line.className = "note";
    line.textContent = text;
    box.replaceChildren(line);
    box.setAttribute("aria-label", text);
  };
  if (Number(place.dataset.bytes) > LONGEST_BYTES) return tell("This recording is too long to draw its audio levels here.");
  try {
    const answer = await fetch(place.dataset.audio);
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const context = new OfflineAudioContext(1, 1, 8000);
    const buffer = await context.decodeAudioData(await answer.arrayBuffer());
    const channels = levels(buffer);
    tell(said(channels, buffer.duration));
    const canvas = document.createElement("canvas");
    box.prepend(canvas);
    const again = () => draw(canvas, channels, audio.duration ? audio.currentTime / audio.duration : 0);
    audio.addEventListener("timeupdate", again);
    addEventListener("resize", again);
    canvas.addEventListener("click", (event) => {
      audio.currentTime = (event.offsetX / canvas.clientWidth) * (audio.duration || 0);
    });
    again();
  } catch (error) {
    tell(`The audio levels cannot be drawn: ${error.message}.`);
  }
}

// Show the answer to a refused change too; htmx drops answers with an error status.
document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status >= 400) event.detail.shouldSwap = true;
});

// On a narrow screen, scroll the calendar to the latest days.
for (const calendar of document.querySelectorAll(".calendar")) calendar.scrollLeft = calendar.scrollWidth;

// Times are shown in the zone of this cookie; the server writes them.
const zone = document.cookie.match(/(?:^|; )callvault_zone=([^;]*)/)?.[1];
const here = Intl.DateTimeFormat().resolvedOptions().timeZone;

function useZone(name) {
  document.cookie = `callvault_zone=${name}; path=/; max-age=31536000; samesite=strict`;
}

if (zone === undefined && document.querySelector("nav")) {
  useZone(here);
  if (here !== "UTC" && document.cookie.includes("callvault_zone=")) location.reload();
}
const other = document.getElementById("zone").dataset.zone === "UTC" ? here : "UTC";
if (here !== "UTC") {
  document.querySelector("footer .zone").hidden = false;
  document.getElementById("zone").textContent = `show ${other === "UTC" ? other : "your time"}`;
  document.getElementById("zone").addEventListener("click", () => {
    useZone(other);
    location.reload();
  });
}

// The keyboard. WCAG 2.1.4 asks that keys of one character can be turned off.
const keys = document.getElementById("keys");

function step(by) {
  const rows = [...document.querySelectorAll(".hits a.open")];
  const at = rows.findIndex((row) => row.closest("tr").contains(document.activeElement));
  rows[Math.min(Math.max(at + by, 0), rows.length - 1)]?.focus();
}

const onKey = {
  "/": () => {
    const box = document.getElementById("q");
    if (box) box.select();
    else location.assign("/ops/recordings");
  },
  j: () => step(1),
  k: () => step(-1),
  x: () => document.activeElement.closest("tr.hit")?.querySelector("input[name=ids]")?.click(),
  "?": () => keys.showModal(),
};

if (keys) {
  const on = document.getElementById("keys-on");
  on.checked = localStorage.getItem("callvault_keys") !== "off";
  on.addEventListener("change", () => localStorage.setItem("callvault_keys", on.checked ? "on" : "off"));
  const button = document.querySelector("footer .keys");
  button.hidden = false;
  button.addEventListener("click", () => keys.showModal());
  document.addEventListener("keydown", (event) => {
    const types = event.target.closest("input:not([type=checkbox]), select, textarea, dialog, audio");
    if (types || event.ctrlKey || event.metaKey || event.altKey || !on.checked || !onKey[event.key]) return;
    event.preventDefault();
    onKey[event.key]();
  });
}

// Names of the search box, and the selection of recordings.
document.addEventListener("click", (event) => {
  const name = event.target.closest("[data-insert]");
  if (!name) return;
  const box = document.getElementById("q");
  box.value = `${box.value.trimEnd()} ${name.dataset.insert}`.trimStart();
  box.focus();
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (!button) return;
  const form = button.form;
  const action = form.action;
  form.action = button.dataset.action;
  form.submit(); // as the browser does, so that the answer is a download
  form.action = action;
});

function showSelection() {
  const form = document.getElementById("many");
  if (!form) return;
  const count = document.querySelectorAll("input[name=ids]:checked").length;
  form.hidden = count === 0;
  document.getElementById("selected").textContent = `${count} selected`;
}

document.addEventListener("change", showSelection);

function start() {
  document.querySelectorAll(".listen").forEach(show);
  showSelection();
}

start();
document.body.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id === "content") start();
});
