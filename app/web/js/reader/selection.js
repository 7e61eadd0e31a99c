// Words that somebody has selected in one segment, and what can be done with them.
import { html, useEffect, useState } from "../../vendor/htm-preact.js";

/** { id, first, last, anchor }, or null: nothing is selected, or words of several segments. */
export function selectedWords() {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0);
  const words = elementOf(range.startContainer).closest(".words");
  if (!words || !words.contains(range.endContainer)) return null;
  const chosen = [...words.children].flatMap((word, i) => (isWithin(word, range) ? [i] : []));
  if (!chosen.length) return null;
  const id = Number(words.closest(".segment").dataset.id);
  return { id, first: chosen[0], last: chosen.at(-1), anchor: range.getBoundingClientRect() };
}

const elementOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement);

function isWithin(word, range) {
  const { startContainer: start, startOffset, endContainer: end, endOffset } = range;
  if (!range.intersectsNode(word)) return false;
  if (word.contains(start) && start.nodeType === Node.TEXT_NODE && startOffset >= start.length) return false;
  return !(word.contains(end) && endOffset === 0);
}

/** A button beside the selection: to give the words to another speaker. */
export function SelectionButton({ onOpen }) {
  const [chosen, setChosen] = useState(null);
  useEffect(() => {
    let timer = 0;
    const look = () => { clearTimeout(timer); timer = setTimeout(() => setChosen(selectedWords()), 150); };
    const hide = () => setChosen(null);
    document.addEventListener("selectionchange", look);
    addEventListener("scroll", hide, { passive: true });
    return () => {
      clearTimeout(timer);
      document.removeEventListener("selectionchange", look);
      removeEventListener("scroll", hide);
    };
  }, []);
  if (!chosen) return null;
  const { left, bottom } = chosen.anchor;
  const place = { left: `${Math.max(8, Math.min(left, innerWidth - 230))}px`, top: `${Math.min(bottom + 6, innerHeight - 50)}px` };
  const count = chosen.last - chosen.first + 1;
  return html`
    <button type="button" class="selection" style=${place} onMouseDown=${(event) => event.preventDefault()}
      onClick=${() => { onOpen(chosen); setChosen(null); }}>
      Speaker of ${count === 1 ? "this word" : `these ${count} words`}…
    </button>`;
}
