// One transcript: read, listen, correct, download.
import { html } from "../../vendor/htm-preact.js";

export function ReaderView() {
  return html`<p></p>`;
}
