// All segments, in blocks. Blocks that are out of sight are not laid out; the first ones are drawn at once, the others
// one after another, so that nothing ever waits for them.
import { Component, html, useEffect, useMemo, useState } from "../../vendor/htm-preact.js";
import { Segment } from "./segment.js";
import { nameOf } from "./tones.js";

const BLOCK = 16; // segments, nearly
const AT_ONCE = 2; // blocks

export function Segments({ transcript, editing, acts }) {
  const { segments } = transcript;
  const blocks = useMemo(() => blocksOf(segments), [segments]);
  const shown = useGrowing(blocks.length);
  return html`
    <div class="segments" role="group" aria-label="Transcript" onClick=${(event) => clicked(event, acts)} onDblClick=${(event) => doubled(event, acts)}>
      ${blocks.slice(0, shown).map((block, i) => html`
        <${Block} key=${block[0].id} segments=${block} speakers=${transcript.speakers} before=${i ? blocks[i - 1].at(-1).speaker : undefined}
          editing=${block.some(({ id }) => id === editing) ? editing : null} acts=${acts} />`)}
    </div>`;
}

/** Where a block begins depends on the segment and not on its place: a split or a join changes one block only. */
function blocksOf(segments) {
  const blocks = [];
  for (const segment of segments) {
    if (!blocks.length || segment.id % BLOCK === 1) blocks.push([]);
    blocks.at(-1).push(segment);
  }
  return blocks;
}

class Block extends Component {
  shouldComponentUpdate({ segments, speakers, before, editing }) {
    const { props } = this;
    return speakers !== props.speakers || before !== props.before || editing !== props.editing
      || segments.length !== props.segments.length || segments.some((segment, i) => segment !== props.segments[i]);
  }

  render({ segments, speakers, before, editing, acts }) {
    return html`
      <ol class="block">
        ${segments.map((segment, i) => html`
          <${Segment} key=${segment.id} segment=${segment} name=${nameOf({ speakers }, segment.speaker)}
            begins=${(i ? segments[i - 1].speaker : before) !== segment.speaker} editing=${editing === segment.id} acts=${acts} />`)}
      </ol>`;
  }
}

function useGrowing(total) {
  const [shown, setShown] = useState(AT_ONCE);
  useEffect(() => {
    if (shown >= total) return undefined;
    const timer = setTimeout(() => setShown(shown + 1 >= total ? Infinity : shown + 1), 4);
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
