// What can be done with a segment, or with some words of it: another speaker, split, join, remove.
import { html } from "../../vendor/htm-preact.js";
import { nodeOf } from "./light.js";
import { segmentWith } from "./model.js";
import { Popover } from "./popover.js";
import { toneOf } from "./tones.js";

/** `menu`: { id, anchor } and, for some words, { first, last }. */
export function SegmentMenu({ menu, transcript, acts, onClose }) {
  const segment = segmentWith(transcript, menu.id);
  if (!segment) return null;
  const some = menu.first !== undefined;
  const beside = neighborOf(transcript, menu.id);
  const heir = () => nodeOf(menu.id) ?? nodeOf(beside);
  const act = (what) => () => { onClose(); what(); };
  return html`
    <${Popover} anchor=${menu.anchor} label=${some ? "The selected words" : "The segment"} heir=${heir} onClose=${onClose}>
      <h3>${some ? "Who says these words?" : "Who speaks?"}</h3>
      <ul class="choices">
        ${Object.entries(transcript.speakers).map(([id, name]) => html`
          <li key=${id}><button type="button" class="plain ${toneOf(id)}" aria-pressed=${segment.speaker === id} onClick=${act(() => acts.give(menu, id))}>
            <span class="dot"></span><bdi>${name}</bdi></button></li>`)}
        <li><button type="button" class="plain" onClick=${act(() => acts.giveToNew(menu))}>+ New speaker</button></li>
      </ul>
      ${!some && html`
        <hr />
        <ul class="choices">
          <li><button type="button" class="plain" onClick=${act(() => acts.edit(menu.id))}>Edit the text, or split it</button></li>
          <li><button type="button" class="plain" onClick=${act(() => acts.join(menu.id))}>Join with the next segment</button></li>
          <li><button type="button" class="plain bad" onClick=${act(() => acts.remove(menu.id))}>Remove the segment</button></li>
        </ul>`}
    <//>`;
}

/** The id of the segment after this one, or before it. */
function neighborOf({ segments }, id) {
  const i = segments.findIndex((segment) => segment.id === id);
  return (segments[i + 1] ?? segments[i - 1])?.id;
}
