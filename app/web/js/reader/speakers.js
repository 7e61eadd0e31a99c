// Who speaks, and how much. A speaker can be renamed, or found to be another one.
import { html, useMemo, useRef, useState } from "../../vendor/htm-preact.js";
import { Popover } from "./popover.js";
import { toneOf } from "./tones.js";

/** Seconds that each speaker has. */
function secondsOf(segments) {
  const seconds = {};
  for (const { speaker, start, end } of segments) seconds[speaker] = (seconds[speaker] ?? 0) + end - start;
  return seconds;
}

export function Speakers({ transcript, acts }) {
  const [open, setOpen] = useState(null); // { id, anchor }
  const seconds = useMemo(() => secondsOf(transcript.segments), [transcript.segments]);
  const whole = Object.values(seconds).reduce((sum, each) => sum + each, 0) || 1;
  const names = Object.entries(transcript.speakers);
  if (!names.length) return null;
  return html`
    <ul class="speakers" aria-label="Speakers">
      ${names.map(([id, name]) => html`
        <li key=${id}>
          <button type="button" class="chip ${toneOf(id)}" data-speaker=${id} title="Rename or merge" aria-haspopup="dialog"
            onClick=${(event) => setOpen({ id, anchor: event.currentTarget.getBoundingClientRect() })}>
            <span class="dot"></span><bdi>${name}</bdi> <span class="pale small">${Math.round(100 * (seconds[id] ?? 0) / whole)}%</span>
          </button>
        </li>`)}
    </ul>
    ${open && open.id in transcript.speakers && html`
      <${SpeakerMenu} key=${open.id} ...${open} transcript=${transcript} acts=${acts} onClose=${() => setOpen(null)} />`}`;
}

const chipOf = (id) => [...document.querySelectorAll(".chip")].find(({ dataset }) => dataset.speaker === id);

function SpeakerMenu({ id, anchor, transcript, acts, onClose }) {
  const [taken, setTaken] = useState(null); // another speaker with the name
  const others = Object.entries(transcript.speakers).filter(([other]) => other !== id);
  const left = useRef(id); // the speaker that there is afterwards
  const merge = (into) => { left.current = into; onClose(); acts.merge(id, into); };
  const rename = (event) => {
    event.preventDefault();
    const name = new FormData(event.target).get("name").replace(/\s+/gu, " ").trim();
    const same = others.find(([, other]) => other === name);
    if (same) return setTaken(same[0]);
    onClose();
    acts.rename(id, name);
  };
  return html`
    <${Popover} anchor=${anchor} label=${`Speaker ${transcript.speakers[id]}`} heir=${() => chipOf(left.current)} onClose=${onClose}>
      <form onSubmit=${rename}>
        <label for="speaker-name">Name, everywhere</label>
        <div class="row">
          <input id="speaker-name" name="name" class="grow" data-first dir="auto" maxlength="200" autocomplete="off" defaultValue=${transcript.speakers[id]}
            onFocus=${(event) => event.target.select()} />
          <button class="main">Rename</button>
        </div>
        ${taken && html`
          <p class="notice warn" role="alert">Another speaker has this name.
            <button type="button" onClick=${() => merge(taken)}>They are the same: merge</button></p>`}
      </form>
      ${others.length > 0 && html`
        <hr />
        <h3>The same person as</h3>
        <ul class="choices">
          ${others.map(([other, name]) => html`
            <li key=${other}><button type="button" class="plain ${toneOf(other)}" onClick=${() => merge(other)}><span class="dot"></span><bdi>${name}</bdi></button></li>`)}
        </ul>`}
    <//>`;
}
