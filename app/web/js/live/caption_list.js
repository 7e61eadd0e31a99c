// The captions, newest last; the list follows them unless the reader has scrolled away.
import { html, useEffect, useRef } from "../../vendor/htm-preact.js";
import { clock } from "../parts/format.js";
import { joined } from "../parts/words.js";

const NEAR_PX = 80;

export function Captions({ captions, active }) {
  const list = useRef();
  const follows = useRef(true);
  useEffect(() => {
    if (follows.current && list.current) list.current.scrollTop = list.current.scrollHeight;
  }, [captions]);
  const note = ({ target }) => { follows.current = target.scrollHeight - target.scrollTop - target.clientHeight < NEAR_PX; };
  return html`
    <div class="captions" ref=${list} onScroll=${note} tabindex="0" role="log" aria-label="Captions" aria-live="off">
      ${captions.length ? captions.map((caption) => html`<${Caption} key=${caption.key} caption=${caption} />`)
    : html`<p class="pale">${active ? "Speak: your words appear here." : "Press Start and speak."}</p>`}
    </div>
    <${Announced} captions=${captions} />`;
}

function Caption({ caption }) {
  const { start, speaker, final, text, committed, tentative } = caption;
  return html`
    <p class="caption" dir="auto">
      <span class="small pale time">${start === null ? "" : clock(start)}${speaker ? ` ${speaker}` : ""}</span>
      ${final ? html`<span>${text}</span>` : html`
        <span>${joined(committed.map(({ word }) => word))}</span>${" "}<span class="tentative">${joined(tentative.map(({ word }) => word))}</span>`}
    </p>`;
}

/** For screen readers: whole sentences, once, instead of words that still change. */
function Announced({ captions }) {
  const last = captions.findLast?.(({ final }) => final);
  return html`<div class="hidden-text" role="status" aria-live="polite">${last?.text ?? ""}</div>`;
}
