"use strict";
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

const player = () => document.querySelector(".listen audio");

const onKey = {
  p: () => (player()?.paused ? player().play() : player()?.pause()),
  h: () => player() && (player().currentTime -= 10),
  l: () => player() && (player().currentTime += 10),
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

showSelection();
document.body.addEventListener("htmx:afterSettle", showSelection);
