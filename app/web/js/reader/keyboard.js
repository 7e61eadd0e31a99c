// The reader's keys. None of them works while somebody types.
import { html, useEffect, useRef } from "../../vendor/htm-preact.js";

const HELP = [
  ["Space", "Play, pause"], ["← →", "Back, forward 5 seconds"], ["↑ ↓", "Previous, next segment"], ["+ −", "Faster, slower"],
  ["/", "Search; Enter and Shift+Enter for the next and the previous match"], ["Enter or E", "Edit the segment"],
  ["Ctrl+Enter", "While editing: split the segment at the cursor"], ["S", "Speaker of the segment, and more"],
  ["Ctrl+Z, Ctrl+Shift+Z", "Undo, redo"], ["F", "Follow the playback, or not"], ["?", "This help"],
];
const FIELDS = "input:not([type=range], [type=checkbox]), textarea, select, [contenteditable]";
const PRESSED = "button, a, summary, input, label"; // they have their own Space and Enter

/** `keys`: what to do, by name. */
export function useKeys(keys) {
  const now = useRef(keys);
  now.current = keys;
  useEffect(() => {
    const onKeyDown = (event) => {
      const name = nameOf(event);
      if (!name || !now.current[name]) return;
      event.preventDefault();
      now.current[name]();
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, []);
}

const PLAIN = {
  " ": "toggle", ArrowLeft: "back", ArrowRight: "forward", ArrowUp: "previous", ArrowDown: "next", "+": "faster", "=": "faster",
  "-": "slower", "/": "search", Enter: "edit", e: "edit", s: "menu", f: "follow", "?": "help",
};

function nameOf({ key, target, ctrlKey, metaKey, altKey, shiftKey, isComposing, defaultPrevented }) {
  if (defaultPrevented || isComposing || altKey || target.matches(FIELDS) || document.querySelector("dialog[open], .popover")) return null;
  if (ctrlKey || metaKey) return { z: shiftKey ? "redo" : "undo", Z: "redo", y: "redo" }[key] ?? null;
  if (target.matches(PRESSED) && [" ", "Enter"].includes(key)) return null;
  if (target.matches("[type=range]") && key.startsWith("Arrow")) return null;
  return PLAIN[key] ?? null;
}

export function Help({ dialog }) {
  return html`
    <dialog ref=${dialog} class="help" aria-labelledby="help-title">
      <h2 id="help-title">Keys</h2>
      <dl>${HELP.map(([keys, what]) => html`<div key=${keys}><dt>${keys}</dt><dd>${what}</dd></div>`)}</dl>
      <p class="small pale">A click on a word plays from there. A double click edits its segment. Select words to give them to another speaker.</p>
      <form method="dialog"><button class="main">Close</button></form>
    </dialog>`;
}
