// The transcript as it is now, in every format: the service writes it, with the corrections.
import { html, useState } from "../../vendor/htm-preact.js";
import { call } from "../api/http.js";
import { nameFor, saveAs } from "../parts/download.js";
import { say } from "../parts/messages.js";
import { Icon } from "./icons.js";
import { toResult } from "./model.js";
import { Popover } from "./popover.js";

const FORMATS = [
  ["txt", "Text"], ["srt", "Subtitles, SRT"], ["vtt", "Subtitles, WebVTT"], ["md", "Markdown, with times"],
  ["tsv", "Table, TSV"], ["json", "Data, JSON"],
];

async function download(transcript, about, format) {
  const body = JSON.stringify(toResult(transcript, about));
  const headers = { "Content-Type": "application/json" };
  try {
    const answer = await call(`format?output=${format}`, { method: "POST", headers, body });
    saveAs(await answer.blob(), nameFor(about.file_name || "transcript", format));
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
