// Forgets the key of this session, for whoever shares the computer.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact.js";
import { ClearKept } from "./clear.js";
import { inWords, keptHere } from "./kept.js";
import { currentKey, forgetKey, onKeyChanged } from "./store.js";

export function ForgetKey() {
  const [key, setKey] = useState(currentKey);
  const [kept, setKept] = useState(null); // what is asked about
  useEffect(() => onKeyChanged(setKey), []);
  const forget = async () => {
    const found = await keptHere().catch(() => null);
    if (found && inWords(found)) setKept(found);
    else forgetKey();
  };
  if (!key) return null;
  return html`
    <button class="plain small" onClick=${forget}>Forget the key</button>
    ${kept && html`<${ForgetDialog} kept=${kept} onClose=${() => setKept(null)} />`}`;
}

function ForgetDialog({ kept, onClose }) {
  const dialog = useRef();
  useEffect(() => { dialog.current.showModal(); }, []);
  return html`
    <dialog ref=${dialog} class="key" aria-labelledby="forget-title" onClose=${onClose}>
      <form method="dialog">
        <h2 id="forget-title">Forget the key</h2>
        <p>This browser keeps ${inWords(kept)}. Others see nothing of it without this key.</p>
        <div class="row">
          <button type="button" class="main" onClick=${forgetKey}>Forget the key</button>
          <button class="plain">Cancel</button>
        </div>
        <${ClearKept} kept=${kept} />
      </form>
    </dialog>`;
}
