// The recording: played by a media element. Without one there is still a place in time, for the eyes.
import { mediaAddress } from "../api/jobs.js";

const EVENTS = ["play", "pause", "ended", "seeked", "timeupdate", "ratechange", "loadedmetadata"];
const RENEWED_MS = 30_000; // an address that fails at once is not asked for again

export const RATES = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3];

/** `audio`: the element. `id`: the job. */
export function createPlayer(audio, id) {
  const listeners = new Set();
  const tell = () => listeners.forEach((listener) => listener());
  let place = 0; // while there is no recording
  let renewedAt = 0;
  EVENTS.forEach((name) => audio.addEventListener(name, tell));

  const player = {
    audio,
    available: false,
    get time() { return player.available ? audio.currentTime : place; },
    get playing() { return player.available && !audio.paused && !audio.ended; },
    get rate() { return audio.playbackRate; },
    /** Resolves to whether there is a recording. */
    async load() {
      try {
        audio.src = await mediaAddress(id);
      } catch {
        return false;
      }
      player.available = true;
      tell();
      return true;
    },
    seek(time) {
      place = Math.max(0, time);
      if (player.available) audio.currentTime = place;
      tell();
    },
    nudge: (seconds) => player.seek(player.time + seconds),
    toggle() {
      if (!player.available) return;
      if (player.playing) audio.pause();
      else audio.play().catch(() => {}); // it was paused again, or failed: see "error"
    },
    setRate(rate) { audio.defaultPlaybackRate = audio.playbackRate = rate; },
    changeRate(step) {
      const i = RATES.findLastIndex((rate) => rate <= audio.playbackRate);
      player.setRate(RATES[Math.min(RATES.length - 1, Math.max(0, i + step))]);
    },
    on(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close() {
      EVENTS.forEach((name) => audio.removeEventListener(name, tell));
      audio.pause();
      audio.removeAttribute("src");
    },
  };

  // A signed address ends after a while: the next one goes on where this one stopped.
  audio.onerror = async () => {
    if (!player.available || Date.now() - renewedAt < RENEWED_MS) return;
    renewedAt = Date.now();
    const at = audio.currentTime, playing = !audio.paused;
    if (!(await player.load())) return;
    audio.currentTime = at;
    if (playing) audio.play().catch(() => {});
  };
  return player;
}
