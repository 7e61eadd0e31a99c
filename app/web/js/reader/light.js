// Lights the word that is spoken. Touches the word before and the word now, never the list.
import { useEffect, useRef } from "../../vendor/htm-preact.js";
import { placeAt } from "./times.js";

const PATIENCE_MS = 4000; // after somebody has scrolled, the page does not

export const nodeOf = (segmentId) => document.getElementById(`s${segmentId}`);
export const wordNode = (segmentId, word) => nodeOf(segmentId)?.querySelector(".words")?.children[word];

/** `segments` belong to `times`. */
export function useLight(player, times, segments, following) {
  const lit = useRef({ word: null, segment: null });
  const scrolledAt = useRef(0);

  useEffect(() => {
    const note = () => { scrolledAt.current = Date.now(); };
    addEventListener("wheel", note, { passive: true });
    addEventListener("touchmove", note, { passive: true });
    return () => { removeEventListener("wheel", note); removeEventListener("touchmove", note); };
  }, []);

  useEffect(() => {
    if (!player) return undefined;
    let frame = 0;
    const show = () => {
      const place = placeAt(times, player.time);
      const id = place && segments[place.segment].id;
      const changed = mark(lit.current, place ? wordNode(id, place.word) ?? null : null, place ? nodeOf(id) : null);
      if (changed && following && player.playing && Date.now() - scrolledAt.current > PATIENCE_MS) reveal(lit.current);
    };
    const loop = () => { show(); frame = player.playing ? requestAnimationFrame(loop) : 0; };
    const wake = () => { if (!frame) loop(); };
    wake();
    const stop = player.on(wake);
    return () => { stop(); cancelAnimationFrame(frame); };
  }, [player, times, segments, following]);
}

/** Whether anything changed. */
function mark(lit, word, segment) {
  if (lit.word === word && lit.segment === segment) return false;
  if (lit.word !== word) {
    lit.word?.removeAttribute("data-lit");
    word?.setAttribute("data-lit", "");
  }
  if (lit.segment !== segment) {
    lit.segment?.removeAttribute("data-playing");
    segment?.setAttribute("data-playing", "");
  }
  Object.assign(lit, { word, segment });
  return true;
}

function reveal({ word, segment }) {
  const node = word ?? segment;
  if (node) intoView(node);
}

/** Scrolls only if it is not in the middle part of the window already. */
export function intoView(node) {
  const { top, bottom } = node.getBoundingClientRect();
  const covered = document.querySelector(".reader .bar")?.getBoundingClientRect().bottom ?? 0;
  if (top < covered + 16 || bottom > innerHeight - 64) node.scrollIntoView({ block: "center" });
}
