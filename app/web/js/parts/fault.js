// Why something is not shown, and a way to get it.
import { html } from "../../vendor/htm-preact.js";

/** `what`: for instance "The queue is". */
export function Fault({ error, what, onAgain }) {
  const needsKey = error.status === 401;
  return html`
    <div class="notice bad row" role="status">
      <span class="grow">${needsKey ? `${what} shown once you have entered a key.` : error.message}</span>
      <button onClick=${onAgain}>${needsKey ? "Enter a key" : "Try again"}</button>
    </div>`;
}
