// What was said, as files. The service writes them, in the formats of all its transcripts.
import { html, useState } from "../../vendor/htm-preact.js";
import { call } from "../api/http.js";
import { saveAs } from "../parts/download.js";
import { say } from "../parts/messages.js";
import { textOf, transcriptOf } from "./captions.js";

const FORMATS = ["txt", "srt", "vtt", "json", "md"];

export function Downloads({ captions }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(textOf(captions));
    setCopied(true);
  };
  const download = async (format) => {
    try {
      const headers = { "Content-Type": "application/json" };
      const body = JSON.stringify(transcriptOf(captions));
      const response = await call(`format?output=${format}`, { method: "POST", headers, body });
      saveAs(await response.blob(), `Live ${new Date().toISOString().slice(0, 10)}.${format}`);
    } catch (error) {
      say(error.message, "bad");
    }
  };
  return html`
    <div class="row">
      <span class="pale">Take it with you:</span>
      ${navigator.clipboard && html`<button onClick=${copy}>${copied ? "Copied" : "Copy"}</button>`}
      ${FORMATS.map((format) => html`<button key=${format} onClick=${() => download(format)}>${format}</button>`)}
    </div>`;
}
