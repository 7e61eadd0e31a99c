// Upload, the queue of this page, and all past jobs.
import { html } from "../../vendor/htm-preact.js";

export function FilesView() {
  return html`<p>Drop a recording here.</p>`;
}
