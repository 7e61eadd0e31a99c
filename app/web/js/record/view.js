// Record from the microphone.
import { html } from "../../vendor/htm-preact.js";

export function RecordView() {
  return html`<p></p>`;
}
