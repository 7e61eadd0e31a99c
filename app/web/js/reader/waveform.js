// The sound as a picture, drawn from peaks that the service computes. For the pointer only; see the slider.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact.js";
import WaveSurfer from "../../vendor/wavesurfer.js";
import { peaksOf } from "../api/jobs.js";

const dark = matchMedia("(prefers-color-scheme: dark)");

/** Its room is kept from the beginning, so that nothing moves when it comes. */
export function Waveform({ id, player, ready }) {
  const place = useRef();
  const [sound, setSound] = useState(null);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    if (ready) peaksOf(id).then(setSound, () => setFailed(true)); // it plays without the picture, too
  }, [ready]);
  useEffect(() => {
    if (!sound) return undefined;
    const wave = WaveSurfer.create({ ...look(), ...fixed(place.current, player, sound) });
    const recolor = () => wave.setOptions(look());
    dark.addEventListener("change", recolor);
    return () => { dark.removeEventListener("change", recolor); wave.destroy(); };
  }, [sound]);
  return html`<div ref=${place} class="waveform" aria-hidden="true" hidden=${failed}></div>`;
}

const fixed = (container, { audio }, { duration, peaks }) => ({
  container, media: audio, duration, peaks: [peaks], height: 56, normalize: true, dragToSeek: true, hideScrollbar: true,
  barWidth: 2, barGap: 1, barRadius: 2, cursorWidth: 2,
  cspNonce: document.querySelector('meta[name="csp-nonce"]').content,
});

function look() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  return { waveColor: color("--line"), progressColor: color("--accent"), cursorColor: color("--text") };
}
