// What runs, for whom, and how far it is.
import { html } from "../../vendor/htm-preact.js";

export function QueueView() {
  return html`<p></p>`;
}
