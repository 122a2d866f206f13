"use strict";
// The keyboard, the same on every page. WCAG 2.1.4 asks that keys of one character can be turned off.

// What `j` and `k` walk along: the rows of every list that something opens. The focus goes to that.
const ROWS = "main tbody tr, main article, main li:not(.chips li)";
// Where a key is typed, or has a meaning of its own.
const TYPES = "input:not([type=checkbox]), select, textarea, dialog, audio";
const PRESSES = `${TYPES}, a, button, input, label, summary`;

const keys = document.getElementById("keys");

function step(by) {
  const rows = new Map(); // by what opens each; of two rows with the same, the inner one
  for (const row of document.querySelectorAll(ROWS)) {
    const opens = row.querySelector("a.open") ?? row.querySelector("a[href], summary");
    if (opens?.checkVisibility()) rows.set(opens, row);
  }
  const all = [...rows];
  const at = all.findLastIndex(([, row]) => row.contains(document.activeElement));
  all[Math.min(Math.max(at + by, 0), all.length - 1)]?.[0].focus();
}

function search() {
  const box = document.querySelector("[role=search] input");
  if (!box) return location.assign("/ops/recordings");
  box.focus();
  box.select();
}

// The player that plays, or else the first.
const player = () => document.querySelector(".listen audio.plays") ?? document.querySelector(".listen audio");
const toggle = () => (player()?.paused ? player().play() : player()?.pause());
const skip = (seconds) => player() && seek(player(), player().currentTime + seconds); // of player.js

const onKey = {
  p: toggle,
  " ": toggle,
  h: () => skip(-10),
  l: () => skip(10),
  "/": search,
  j: () => step(1),
  k: () => step(-1),
  x: () => document.activeElement.closest(ROWS)?.querySelector("input[type=checkbox]")?.click(),
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
    if (event.key === "Escape" && event.target.matches("[role=search] input") && !event.target.value) event.target.blur();
    const taken = event.target.closest(event.key === " " ? PRESSES : TYPES) || (event.key === " " && !player());
    if (taken || event.ctrlKey || event.metaKey || event.altKey || !on.checked || !onKey[event.key]) return;
    event.preventDefault();
    if (!event.repeat || onKey[event.key] !== toggle) onKey[event.key]();
  });
}
