// A file that is being sent.
import { html } from "../../vendor/htm-preact.js";
import { focusBeside } from "../parts/focus.js";
import { duration, shownName, size } from "../parts/format.js";
import { cancelUpload, retryUpload } from "./uploads.js";

function stateOf({ state, share, error, waitS }) {
  if (state === "failed") return error;
  if (error) return `${error} It is sent again by itself after ${duration(waitS)}.`;
  if (state === "waiting") return "Waits to be sent.";
  return share < 1 ? `Sending: ${Math.floor(share * 100)} %` : "Sent. The service takes it in …";
}

export function UploadRow({ upload }) {
  const { id, file, state, share, error, final } = upload;
  const name = shownName(file.name);
  const again = ({ currentTarget }) => { currentTarget.nextElementSibling.focus(); retryUpload(id); }; // this button goes
  const drop = ({ currentTarget }) => { focusBeside(currentTarget); cancelUpload(id); };
  return html`
    <li class="item">
      <div class="grow">
        <div class="name" dir="auto">${name}</div>
        <div class="small ${state === "failed" ? "fault" : "pale"}">${stateOf(upload)} <span class="pale">${size(file.size)}</span></div>
        ${state === "sending" && html`<progress aria-label="Sent of ${name}" max="1" value=${share}></progress>`}
      </div>
      <div class="row actions">
        ${state !== "sending" && error && !final && html`<button onClick=${again} aria-label="Try again: ${name}">Try again</button>`}
        <button class="plain" onClick=${drop} aria-label="${state === "failed" ? "Remove" : "Cancel"}: ${name}">
          ${state === "failed" ? "Remove" : "Cancel"}
        </button>
      </div>
    </li>`;
}
