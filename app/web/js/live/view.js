// Words while people speak.
import { html } from "../../vendor/htm-preact.js";

export function LiveView() {
  return html`<p></p>`;
}
