"use strict";
// The player of a recording: steps, speeds, and links to a moment. `levels.js` draws the picture above it.
// It stands outside of what a change reads anew, so a hold does not stop what plays.

// Before somebody plays it, nothing of the audio is asked for, so that the access log takes no look for a play: the
// browser then only notes where to begin.
function seek(audio, seconds) {
  const length = audio.duration || Number(audio.dataset.seconds) || Infinity;
  audio.currentTime = Math.max(0, Math.min(seconds, length));
}

function momentOf(address) {
  const match = address.match(/^#t=(\d+(?:\.\d+)?)$/);
  return match ? Number(match[1]) : null;
}

function listen(place) {
  const audio = place.querySelector("audio");
  const toMoment = () => {
    const moment = momentOf(location.hash) ?? (place.dataset.near ? Number(place.dataset.near) : null);
    if (moment !== null) seek(audio, moment);
  };
  toMoment();
  addEventListener("hashchange", toMoment);
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll(".listen audio")) {
      other.classList.toggle("plays", other === audio);
      if (other !== audio) other.pause();
    }
  });
  for (const button of place.querySelectorAll("[data-skip]")) {
    button.addEventListener("click", () => seek(audio, audio.currentTime + Number(button.dataset.skip)));
  }
  place.querySelector("[name=speed]").addEventListener("change", (event) => (audio.playbackRate = Number(event.target.value)));
  place.querySelector("[data-moment]").addEventListener("click", (event) => {
    const seconds = Math.floor(audio.currentTime);
    history.replaceState(null, "", `#t=${seconds}`); // as `location.hash` does, but nothing jumps there
    navigator.clipboard?.writeText(location.href).catch(() => {}); // without leave, the address bar has it
    event.target.textContent = `Link to ${seconds} s is in the address bar`;
  });
  picture(place, audio);
}

// A word of the transcription that was searched for plays about where it is said.
document.addEventListener("click", (event) => {
  const link = event.target.closest("mark a");
  const audio = document.querySelector(".listen audio");
  if (!link || !audio) return;
  event.preventDefault();
  history.replaceState(null, "", link.hash);
  seek(audio, momentOf(link.hash));
  audio.play();
});

document.querySelectorAll(".listen").forEach(listen);
