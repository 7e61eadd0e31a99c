// Messages at the edge of the page, such as an error that belongs to no file.
import { html, useEffect, useState } from "../../vendor/htm-preact.js";

let messages = [];
let number = 0;
const listeners = new Set();

function change(next) {
  messages = next;
  listeners.forEach((tell) => tell(messages));
}

/** Shows a sentence until it is dismissed. kind: "" or "bad" or "warn". */
export function say(text, kind = "") {
  if (messages.some((message) => message.text === text)) return;
  change([...messages, { id: ++number, text, kind }].slice(-4));
}

export function Messages() {
  const [shown, setShown] = useState(messages);
  useEffect(() => {
    listeners.add(setShown);
    return () => listeners.delete(setShown);
  }, []);
  return html`
    <div class="messages" role="status" aria-live="polite">
      ${shown.map(({ id, text, kind }) => html`
        <div key=${id} class="notice ${kind}">
          <span class="grow">${text}</span>
          <button class="plain" aria-label="Dismiss" onClick=${() => change(messages.filter((m) => m.id !== id))}>✕</button>
        </div>`)}
    </div>`;
}
