"use strict";
// The picture above the player: how loud each channel is over time, and where both are silent.
const LARGEST_BYTES = 60e6; // that are decoded here; a WAV of any size is read by the server
const STEPS = 600;
const SILENT = 4; // of 255
const PAUSE_SECONDS = 2; // a shorter silence is not marked

function loudest(buffer) {
  return Array.from({ length: buffer.numberOfChannels }, (_, n) => {
    const samples = buffer.getChannelData(n);
    const step = Math.max(1, Math.ceil(samples.length / STEPS));
    const tops = [];
    for (let at = 0; at < samples.length; at += step) {
      let top = 0;
      for (let i = at; i < Math.min(at + step, samples.length); i++) top = Math.max(top, Math.abs(samples[i]));
      tops.push(Math.min(255, Math.round(top * 256)));
    }
    return tops;
  });
}

async function readLevels(place) {
  const answer = await fetch(place.dataset.levels || place.dataset.audio);
  if (!answer.ok) throw new Error(answer.status === 409 ? "the audio is damaged" : `status ${answer.status}`);
  if (place.dataset.levels) return answer.json();
  const context = new OfflineAudioContext(1, 1, 8000);
  const buffer = await context.decodeAudioData(await answer.arrayBuffer());
  return { seconds: buffer.duration, channels: loudest(buffer) };
}

// The parts of the picture, from 0 to 1, in which no channel has sound for a while.
function pauses({ seconds, channels }) {
  const found = [];
  const count = channels[0].length;
  let since = null;
  for (let i = 0; i <= count; i++) {
    const isSilent = i < count && channels.every((tops) => tops[i] <= SILENT);
    if (isSilent) since ??= i;
    else if (since !== null) {
      if (((i - since) / count) * seconds >= PAUSE_SECONDS) found.push([since / count, i / count]);
      since = null;
    }
  }
  return found;
}

function draw(canvas, levels, played) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name);
  const width = (canvas.width = canvas.clientWidth * devicePixelRatio);
  const height = (canvas.height = canvas.clientHeight * devicePixelRatio);
  const context = canvas.getContext("2d");
  const row = height / levels.channels.length;
  const top = Math.max(12, ...levels.channels.flat()); // a quiet call is seen as well as a loud one
  context.fillStyle = colour("--ground");
  for (const [from, to] of pauses(levels)) context.fillRect(from * width, 0, (to - from) * width, height);
  levels.channels.forEach((tops, n) => {
    context.fillStyle = colour(n ? "--second" : "--first");
    tops.forEach((level, i) => {
      const tall = Math.max(1, (level / top) * row * 0.9);
      context.globalAlpha = i / tops.length < played ? 1 : 0.55;
      context.fillRect((i / tops.length) * width, n * row + (row - tall) / 2, Math.max(1, width / tops.length - 1), tall);
    });
    context.globalAlpha = 1;
    context.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    if (levels.channels.length === 1) return;
    const [x, y, name] = [6 * devicePixelRatio, n * row + 14 * devicePixelRatio, `channel ${n + 1}`];
    const ink = context.fillStyle;
    context.fillStyle = colour("--sheet");
    context.fillRect(x - 3, y - 12 * devicePixelRatio, context.measureText(name).width + 6, 15 * devicePixelRatio);
    context.fillStyle = ink;
    context.fillText(name, x, y);
  });
  context.fillStyle = colour("--ink");
  context.fillRect(played * width, 0, Math.max(1, devicePixelRatio), height);
}

function described({ seconds, channels }) {
  return channels
    .map((tops, n) => {
      const sound = tops.filter((level) => level > SILENT).length / tops.length;
      return `channel ${n + 1}: sound in ${Math.round(sound * 100)}% of ${Math.round(seconds)} s`;
    })
    .join("; ");
}

async function picture(place, audio) {
  const box = place.querySelector(".levels");
  const show = (text) => {
    const line = document.createElement("p");
    line.className = "note";
    line.textContent = text;
    box.replaceChildren(line);
    box.setAttribute("aria-label", text);
  };
  if (!place.dataset.levels && Number(place.dataset.bytes) > LARGEST_BYTES) {
    return show("This MP3 is too long to draw its audio levels here.");
  }
  if (!place.dataset.levels && audio.paused) { // its picture takes the audio itself, which only a play may ask for
    audio.addEventListener("play", () => picture(place, audio), { once: true });
    return show("The audio levels of an MP3 are drawn when it plays.");
  }
  try {
    const levels = await readLevels(place);
    show(described(levels));
    const canvas = document.createElement("canvas");
    box.prepend(canvas);
    const again = () => draw(canvas, levels, audio.duration ? audio.currentTime / audio.duration : 0);
    audio.addEventListener("timeupdate", again);
    audio.addEventListener("seeked", again);
    addEventListener("resize", again);
    canvas.addEventListener("click", (event) => seek(audio, (event.offsetX / canvas.clientWidth) * (audio.duration || levels.seconds)));
    again();
  } catch (error) {
    show(`The audio levels cannot be drawn: ${error.message}.`);
  }
}
