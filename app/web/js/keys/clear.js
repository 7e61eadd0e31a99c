// Empties what this browser keeps, if that is confirmed; for whoever shares the computer.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact.js";
import { say } from "../parts/messages.js";
import { clear, inWords, keptHere } from "./kept.js";
import { currentOwner } from "./owner.js";
import { forgetKey } from "./store.js";

/** What is kept; null until it is known. `causes`: when to look again. */
export function useKept(causes) {
  const [kept, setKept] = useState(null);
  useEffect(() => { keptHere().then(setKept, () => setKept(null)); }, causes);
  return kept;
}

export function ClearKept({ kept }) {
  const [asking, setAsking] = useState(false);
  const sure = useRef();
  useEffect(() => { if (asking) sure.current.focus(); }, [asking]);
  const words = kept && inWords(kept);
  if (!words) return null;
  const act = () => clear(kept).then(forgetKey, (error) => say(`It could not be cleared: ${error.message}`, "bad"));
  if (!asking) return html`<button type="button" class="plain bad" onClick=${() => setAsking(true)}>Also clear what this browser keeps</button>`;
  return html`
    <div class="notice bad" role="alert">
      <p>This deletes ${words} from this browser${currentOwner() === null ? ", whoever made them" : ""}, for good.</p>
      <div class="row">
        <button type="button" class="bad" ref=${sure} onClick=${act}>Delete them</button>
        <button type="button" onClick=${() => setAsking(false)}>Keep them</button>
      </div>
    </div>`;
}
