// What was said, as files. The service writes them, in the formats of all its transcripts.
import { html, useState } from "../../vendor/htm-preact.js";
import { saveAs } from "../parts/download.js";
import { FORMATS, written } from "../parts/formats.js";
import { say } from "../parts/messages.js";
import { textOf, transcriptOf } from "./captions.js";

export function Downloads({ captions, onTaken }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(textOf(captions));
    setCopied(true);
    onTaken();
  };
  const download = async (format) => {
    try {
      saveAs(await written(transcriptOf(captions), format), `Live ${new Date().toISOString().slice(0, 10)}.${format}`);
      onTaken();
    } catch (error) {
      say(error.message, "bad");
    }
  };
  return html`
    <div class="row">
      <span class="pale">Take it with you:</span>
      ${navigator.clipboard && html`<button onClick=${copy}>${copied ? "Copied" : "Copy"}</button>`}
      ${FORMATS.map(([format]) => html`<button key=${format} onClick=${() => download(format)}>${format}</button>`)}
    </div>`;
}
