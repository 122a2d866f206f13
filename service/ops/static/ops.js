"use strict";
// Show the answer to a refused change too; htmx drops answers with an error status.
document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status >= 400) event.detail.shouldSwap = true;
});

// On paper: the time of printing, and what is folded on the screen.
addEventListener("beforeprint", () => {
  const place = document.getElementById("printed");
  const zone = document.getElementById("zone").dataset.zone;
  const now = new Date();
  const parts = { dateStyle: "short", timeStyle: "medium", timeZone: zone };
  place.textContent = `${new Intl.DateTimeFormat("sv-SE", parts).format(now)} ${zone}`;
  for (const one of document.querySelectorAll("main details.prints:not([open])")) {
    one.open = true;
    one.dataset.printed = "";
  }
});
addEventListener("afterprint", () => {
  for (const one of document.querySelectorAll("[data-printed]")) {
    one.open = false;
    delete one.dataset.printed;
  }
});

// On a narrow screen, scroll the calendar to the latest days.
function showLatestDays() {
  for (const calendar of document.querySelectorAll(".calendar")) calendar.scrollLeft = calendar.scrollWidth;
}
showLatestDays();
document.body.addEventListener("htmx:afterSettle", showLatestDays);

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

// A button that copies a text. Where a browser has no clipboard (plain HTTP), it selects the text.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  getSelection().selectAllChildren(source);
  if (!navigator.clipboard) return;
  await navigator.clipboard.writeText(source.textContent);
  button.textContent = "Copied";
});

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
  if ("asks" in button.dataset && !form.reportValidity()) return;
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
  for (const all of document.querySelectorAll("[data-all]")) {
    const boxes = [...all.closest("section, #content").querySelectorAll("input[name=ids]")];
    all.closest("label").hidden = false;
    all.checked = boxes.length > 0 && boxes.every((box) => box.checked);
  }
}

document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-all]")) return;
  const boxes = event.target.closest("section, #content").querySelectorAll("input[name=ids]");
  for (const box of boxes) box.checked = event.target.checked;
});
document.addEventListener("change", showSelection);

showSelection();
document.body.addEventListener("htmx:afterSettle", showSelection);
