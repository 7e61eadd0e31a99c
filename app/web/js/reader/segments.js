// All segments. The first ones are drawn at once, the others a few at a time, so that nothing ever waits for them.
import { html, useEffect, useState } from "../../vendor/htm-preact.js";
import { Segment } from "./segment.js";
import { nameOf } from "./tones.js";

const AT_ONCE = 40, EACH_TIME = 60;

export function Segments({ transcript, editing, acts }) {
  const { segments } = transcript;
  const shown = useGrowing(segments.length);
  return html`
    <ol class="segments" aria-label="Transcript" onClick=${(event) => clicked(event, acts)} onDblClick=${(event) => doubled(event, acts)}>
      ${segments.slice(0, shown).map((segment, i) => html`
        <${Segment} key=${segment.id} segment=${segment} name=${nameOf(transcript, segment.speaker)}
          begins=${!i || segments[i - 1].speaker !== segment.speaker} editing=${editing === segment.id} acts=${acts} />`)}
    </ol>`;
}

function useGrowing(total) {
  const [shown, setShown] = useState(AT_ONCE);
  useEffect(() => {
    if (shown >= total) return undefined;
    const timer = setTimeout(() => setShown(shown + EACH_TIME > total ? Infinity : shown + EACH_TIME));
    return () => clearTimeout(timer);
  }, [shown, total]);
  return shown;
}

const idOf = (node) => Number(node.closest(".segment")?.dataset.id);

/** A plain click on a word plays from there; not one that ends a selection. */
function clicked({ target }, acts) {
  const word = target.closest(".word");
  if (!word || !getSelection().isCollapsed) return;
  acts.goTo(idOf(word), [...word.parentNode.children].indexOf(word));
}

function doubled({ target }, acts) {
  if (!target.closest(".words")) return;
  getSelection().removeAllRanges();
  acts.edit(idOf(target));
}
