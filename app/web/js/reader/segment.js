// One segment: who speaks, when, and the words. Drawn again only if something in it has changed.
import { Component, html } from "../../vendor/htm-preact.js";
import { clock } from "../parts/format.js";
import { Editor } from "./editor.js";
import { IconButton } from "./icons.js";
import { toneOf } from "./tones.js";

const UNSURE = 0.5; // of a word's score
const WATCHED = ["segment", "name", "begins", "editing"];

export class Segment extends Component {
  shouldComponentUpdate(next) {
    return WATCHED.some((name) => next[name] !== this.props[name]);
  }

  render({ segment, name, begins, editing, acts }) {
    const { id, start, speaker } = segment;
    const open = (event) => acts.openMenu(id, event.currentTarget.getBoundingClientRect());
    return html`
      <li id=${`s${id}`} data-id=${id} class="segment ${toneOf(speaker)} ${begins ? "begins" : ""}" tabindex="-1">
        ${begins
          ? html`<button type="button" class="plain who" tabindex="-1" title="Change the speaker" onClick=${open}><span class="dot"></span><bdi>${name}</bdi></button>`
          : html`<span class="who hidden-text">${name}</span>`}
        <button type="button" class="plain time" tabindex="-1" title="Play from here" onClick=${() => acts.goTo(id)}>${clock(start)}</button>
        ${editing
          ? html`<${Editor} segment=${segment} acts=${acts} />`
          : html`<${Words} words=${segment.words} />`}
        <span class="tools">
          <${IconButton} icon="edit" label="Edit the text" onClick=${() => acts.edit(id)} />
          <${IconButton} icon="more" label="Speaker and more" aria-haspopup="dialog" onClick=${open} />
        </span>
      </li>`;
  }
}

/** By itself: another name for a speaker does not touch the words. */
class Words extends Component {
  shouldComponentUpdate({ words }) {
    return words !== this.props.words;
  }

  render({ words }) {
    return html`<p class="words" dir="auto">${words.flatMap(written)}</p>`;
  }
}

function written({ word, gap, score }, i) {
  const node = html`<span class=${score !== null && score < UNSURE ? "word unsure" : "word"}>${word}</span>`;
  return i && gap ? [gap, node] : [node];
}
