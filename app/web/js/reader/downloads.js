// The transcript as it is now, in every format: the service writes it, with the corrections.
import { html, useState } from "../../vendor/htm-preact.js";
import { nameFor, saveAs } from "../parts/download.js";
import { FORMATS, written } from "../parts/formats.js";
import { say } from "../parts/messages.js";
import { Icon } from "./icons.js";
import { toResult } from "./model.js";
import { Popover } from "./popover.js";

async function download(transcript, about, format) {
  try {
    saveAs(await written(toResult(transcript, about), format), nameFor(about.file_name || "transcript", format));
  } catch (error) {
    say(error.message, "bad");
  }
}

export function Downloads({ transcript, about }) {
  const [anchor, setAnchor] = useState(null);
  const take = (format) => { setAnchor(null); download(transcript, about, format); };
  return html`
    <button type="button" aria-haspopup="dialog" onClick=${(event) => setAnchor(event.currentTarget.getBoundingClientRect())}>
      <${Icon} name="download" />Download
    </button>
    ${anchor && html`
      <${Popover} anchor=${anchor} label="Download as" onClose=${() => setAnchor(null)}>
        <ul class="choices">
          ${FORMATS.map(([format, title]) => html`<li key=${format}><button type="button" class="plain" onClick=${() => take(format)}>${title}</button></li>`)}
        </ul>
      <//>`}`;
}
