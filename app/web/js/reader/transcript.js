// The reader: player, speakers, words, and all that can be done with them.
import { html, useEffect, useMemo, useRef, useState } from "../../vendor/htm-preact.js";
import { clock, shownName } from "../parts/format.js";
import { nameOf } from "../parts/languages.js";
import { addressOf } from "../route.js";
import { changesOf } from "./acts.js";
import { Downloads } from "./downloads.js";
import { useEditing } from "./editing.js";
import { FindBar } from "./find-bar.js";
import { IconButton } from "./icons.js";
import { Help, useKeys } from "./keyboard.js";
import { intoView, nodeOf, useLight } from "./light.js";
import { segmentWith } from "./model.js";
import { createPlayer } from "./player.js";
import { PlayerBar } from "./player-bar.js";
import { SegmentMenu } from "./segment-menu.js";
import { Segments } from "./segments.js";
import { SelectionButton } from "./selection.js";
import { Speakers } from "./speakers.js";
import { lastBefore, timesOf } from "./times.js";
import { Waveform } from "./waveform.js";

const SILENT = "The recording is not kept on the service, so it cannot be played here. The transcript can be read, corrected and downloaded.";

export function Transcript({ id, opened }) {
  const { about, missing } = opened;
  const { history, transcript, edited, acts: edits } = useEditing(id, opened);
  const [editing, setEditing] = useState(null); // the id of the segment whose text is open
  const [menu, setMenu] = useState(null);
  const [following, setFollowing] = useState(true);
  const [unsure, setUnsure] = useState(false);
  const { player, audio, state } = usePlayer(id, about.audio && !missing);
  const times = useMemo(() => timesOf(transcript.segments), [transcript.segments]);
  useLight(player, times, transcript.segments, following);
  const field = useRef(), help = useRef();
  const now = useRef({});
  now.current = { transcript, player };
  const acts = useMemo(() => actsOf(now, edits, setEditing, setMenu), []);
  useKeys(player ? keysOf({ player, acts, edits, field, help, turnFollowing: () => setFollowing((on) => !on) }) : {});
  const discard = ({ detail }) => { edits.discard(); if (!detail) acts.focus(); }; // by keyboard: the button goes
  const [last, next] = [history.past.at(-1), history.future[0]];
  return html`
    <article class="reader" aria-busy=${player ? null : "true"}>
      <audio ref=${audio} preload="metadata"></audio>
      <${Title} about=${about} language=${transcript.language}>
        <${IconButton} icon="undo" label=${last ? `Undo: ${last.label}` : "Undo"} disabled=${!last} onClick=${edits.undo} />
        <${IconButton} icon="redo" label=${next ? `Redo: ${next.label}` : "Redo"} disabled=${!next} onClick=${edits.redo} />
        <${Downloads} transcript=${transcript} about=${about} />
      <//>
      <p class="hidden-text" role="status">${last?.label}</p>
      ${missing && html`<p class="notice warn">${missing} Your corrected copy is kept in this browser.</p>`}
      ${edited && html`
        <p class="notice row edited"><span class="grow">Edited. The changes are kept in this browser; download the transcript to share them.</span>
          <button type="button" onClick=${discard}>Discard edits</button></p>`}
      ${state === "silent" && html`<p class="notice">${SILENT}</p>`}
      <div class="bar">
        ${state !== "silent" && html`<${Waveform} id=${id} player=${player} ready=${state === "ready"} />`}
        <${PlayerBar} player=${player} ready=${state === "ready"} duration=${about.duration ?? 0} />
        <${FindBar} segments=${transcript.segments} field=${field} onLeave=${() => acts.focus()} />
      </div>
      <div class="row">
        <${Speakers} transcript=${transcript} acts=${acts} />
        <div class="row toggles">
          <${Toggle} on=${following} onChange=${setFollowing}>Follow the playback<//>
          <${Toggle} on=${unsure} onChange=${setUnsure}>Underline unsure words<//>
          <button type="button" class="plain square" aria-label="Help: keys" title="Keys (?)" onClick=${() => help.current.showModal()}>?</button>
        </div>
      </div>
      <div class=${unsure ? "shows-unsure" : ""}>
        <${Segments} transcript=${transcript} editing=${editing} acts=${acts} />
        ${!transcript.segments.length && html`<p class="pale">No speech was found in this recording.</p>`}
      </div>
      <${SelectionButton} onOpen=${setMenu} />
      ${menu && html`<${SegmentMenu} menu=${menu} transcript=${transcript} acts=${acts} onClose=${() => setMenu(null)} />`}
      <${Help} dialog=${help} />
    </article>`;
}

function Title({ about, language, children }) {
  const facts = [clock(about.duration ?? 0), nameOf(language), about.model].filter(Boolean);
  return html`
    <div class="row title">
      <div class="grow">
        <a href=${addressOf("files")} class="small">← Files</a>
        <h2><bdi>${shownName(about.file_name ?? "")}</bdi></h2>
        <p class="pale small">${facts.join(" · ")}</p>
      </div>
      <div class="row" role="group" aria-label="Transcript">${children}</div>
    </div>
    ${(about.warnings ?? []).map((warning) => html`<p key=${warning} class="notice warn">${warning}</p>`)}`;
}

const Toggle = ({ on, onChange, children }) => html`
  <label class="toggle"><input type="checkbox" checked=${on} onChange=${(event) => onChange(event.target.checked)} /> ${children}</label>`;

function usePlayer(id, kept) {
  const audio = useRef();
  const [player, setPlayer] = useState(null);
  const [state, setState] = useState(kept ? "loading" : "silent");
  useEffect(() => {
    const made = createPlayer(audio.current, id);
    setPlayer(made);
    if (kept) made.load().then((found) => setState(found ? "ready" : "silent"));
    return made.close;
  }, []);
  return { audio, player, state };
}

/** The same object for all time: what it needs to know, it reads from `now`. */
function actsOf(now, edits, setEditing, setMenu) {
  const changes = changesOf(edits);
  const segments = () => now.current.transcript.segments;
  const current = () => Number(document.activeElement?.closest(".segment")?.dataset.id) || segments()[played()]?.id;
  const played = () => Math.max(0, lastBefore(segments().map(({ start }) => start), now.current.player.time));
  const focus = (id = current()) => {
    const node = nodeOf(id);
    node?.focus({ preventScroll: true });
    if (node) intoView(node);
  };
  const goTo = (id, word = -1) => {
    const segment = segmentWith(now.current.transcript, id);
    if (segment) now.current.player.seek(segment.words[word]?.start ?? segment.start);
  };
  return {
    ...changes,
    focus,
    goTo,
    edit: (id = current()) => setEditing(id),
    edited(id, text, head) {
      setEditing(null);
      changes.text(id, text, head);
      edits.typed();
    },
    typing: edits.typing,
    openMenu: (id, anchor) => setMenu({ id, anchor }),
    openMenuHere() {
      const node = nodeOf(current());
      if (node) setMenu({ id: current(), anchor: node.querySelector(".words").getBoundingClientRect() });
    },
    move(by) {
      const i = segments().findIndex(({ id }) => id === current());
      const target = segments()[Math.max(0, Math.min(segments().length - 1, i + by))];
      if (!target) return;
      goTo(target.id);
      focus(target.id);
    },
  };
}

const keysOf = ({ player, acts, edits, field, help, turnFollowing }) => ({
  toggle: () => player.toggle(), back: () => player.nudge(-5), forward: () => player.nudge(5),
  faster: () => player.changeRate(1), slower: () => player.changeRate(-1),
  previous: () => acts.move(-1), next: () => acts.move(1), edit: () => acts.edit(), menu: () => acts.openMenuHere(),
  search: () => field.current.select(), help: () => help.current.showModal(), follow: turnFollowing,
  undo: edits.undo, redo: edits.redo,
});
