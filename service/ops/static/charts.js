"use strict";
// The value under the pointer, or under the arrow keys, of each chart. It comes from the table of all values.

const untouched = new WeakMap(); // the text below a chart before a person pointed at it
let last; // which bar of which chart a person looked at, by its time, so that it survives an update

const rowsOf = () => document.querySelector("#values tbody").rows; // the latest first

function show(range) {
  const row = rowsOf()[range.max - range.value];
  const text = `${row.cells[0].textContent}: ${row.cells[range.dataset.column].textContent}`;
  const figure = range.closest("figure");
  const readout = figure.querySelector(".readout");
  if (!untouched.has(readout)) untouched.set(readout, readout.textContent);
  readout.textContent = text;
  range.setAttribute("aria-valuetext", text);
  figure.querySelector(".here").setAttribute("x", range.value);
  last = { id: range.id, time: row.cells[0].textContent, hasFocus: range === document.activeElement };
}

function leave(figure) {
  const readout = figure.querySelector(".readout");
  if (untouched.has(readout)) readout.textContent = untouched.get(readout);
  figure.querySelector(".here").setAttribute("x", "-2");
  last = undefined;
}

function ready() {
  for (const range of document.querySelectorAll(".chart input")) {
    range.hidden = false;
    if (range.id !== last?.id) continue;
    const at = [...rowsOf()].findIndex((row) => row.cells[0].textContent === last.time);
    if (at < 0) continue;
    range.value = range.max - at;
    if (last.hasFocus) range.focus({ preventScroll: true });
    show(range);
  }
}

const rangeOf = (event) => event.target.closest?.(".chart .bars")?.querySelector("input");

document.addEventListener("input", (event) => rangeOf(event) && show(rangeOf(event)));
document.addEventListener("focusin", (event) => rangeOf(event) && show(rangeOf(event)));
document.addEventListener("focusout", (event) => {
  const range = rangeOf(event);
  if (range) setTimeout(() => range.isConnected && leave(range.closest("figure"))); // an update removes it too
});
document.addEventListener("pointermove", (event) => {
  const range = rangeOf(event);
  if (!range) {
    const shown = last && document.getElementById(last.id);
    if (shown && shown !== document.activeElement) leave(shown.closest("figure"));
    return;
  }
  const box = range.getBoundingClientRect();
  range.value = Math.floor(((event.clientX - box.left) / box.width) * (Number(range.max) + 1));
  show(range);
});

// An update closes what a person has opened.
let isOpen = false;
document.addEventListener("toggle", (event) => event.target.id === "values" && (isOpen = event.target.open), true);
document.body.addEventListener("htmx:afterSettle", () => {
  const values = document.getElementById("values");
  if (values && isOpen) values.open = true;
  ready();
});
ready();
