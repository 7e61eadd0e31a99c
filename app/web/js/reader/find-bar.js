// Search in the transcript: how often, next and previous.
import { html, useEffect, useMemo, useRef, useState } from "../../vendor/htm-preact.js";
import { occurrences } from "./find.js";
import { IconButton } from "./icons.js";
import { intoView, nodeOf, wordNode } from "./light.js";

const WAIT_MS = 150;
const MOST_MARKED = 400; // around the current one

export function FindBar({ segments, field, onLeave }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState({ number: 0 }); // another object with each step, even to the same match
  const found = useMemo(() => occurrences(segments, text), [segments, text]);
  const timer = useRef(0);
  const type = (event) => {
    const { value } = event.target;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => { setText(value); setAt({ number: 0 }); }, WAIT_MS);
  };
  const current = found.length ? at.number % found.length : 0;
  const step = (by) => found.length && setAt({ number: (current + by + found.length) % found.length });
  useMarks(segments, found, current);
  useEffect(() => { if (found.length) show(segments, found[current]); }, [text, at]); // not with each correction
  const onKeyDown = (event) => {
    if (event.key === "Enter") { event.preventDefault(); step(event.shiftKey ? -1 : 1); }
    if (event.key === "Escape") { event.target.value = ""; type(event); onLeave(); }
  };
  return html`
    <search class="row find">
      <input ref=${field} type="search" placeholder="Search" aria-label="Search in the transcript" onInput=${type} onKeyDown=${onKeyDown} />
      <span class="small pale count" role="status">${text.trim() && (found.length ? `${current + 1} of ${found.length}` : "Not found")}</span>
      <${IconButton} icon="up" label="Previous match" disabled=${!found.length} onClick=${() => step(-1)} />
      <${IconButton} icon="down" label="Next match" disabled=${!found.length} onClick=${() => step(1)} />
    </search>`;
}

/** Marks the words that were found. */
function useMarks(segments, found, current) {
  useEffect(() => {
    const near = found.slice(Math.max(0, current - MOST_MARKED / 2), current + MOST_MARKED / 2);
    const nodes = near.flatMap((hit) => nodesOf(segments, hit));
    nodes.forEach((node) => node.setAttribute("data-hit", ""));
    const own = found.length ? nodesOf(segments, found[current]) : [];
    own.forEach((node) => node.setAttribute("data-hit", "current"));
    return () => nodes.forEach((node) => node.removeAttribute("data-hit"));
  }, [segments, found, current]);
}

function show(segments, hit) {
  const target = nodesOf(segments, hit)[0] ?? nodeOf(segments[hit.segment].id);
  if (target) intoView(target);
}

function nodesOf(segments, { segment, first, last }) {
  const nodes = [];
  for (let word = first; word <= last; word++) {
    const node = wordNode(segments[segment].id, word);
    if (node) nodes.push(node);
  }
  return nodes;
}
