// A job that goes on: how far it is.
import { html } from "../../vendor/htm-preact.js";
import { shownName } from "../parts/format.js";

const STEPS = {
  fetch: "Getting the recording", decode: "Reading the sound", recognize: "Recognizing words", align: "Timing the words",
  diarize: "Telling speakers apart", store: "Finishing", notify: "Finishing",
};

export function stateOf({ status, step, progress, eta_seconds, retry_at, error }, ahead = 0) {
  if (status === "queued" && retry_at) return `Is tried again soon. ${error?.message ?? ""}`;
  if (status === "queued") return ahead ? `Waits; ${ahead} before it.` : "Waits for its turn.";
  return [`${STEPS[step] ?? "In progress"}: ${progress} %`, left(eta_seconds)].filter(Boolean).join(", ");
}

function left(seconds) {
  if (seconds == null) return "";
  return seconds < 60 ? "less than a minute left" : `about ${Math.round(seconds / 60)} min left`;
}

export function JobRow({ task, ahead, cancelling, onCancel }) {
  const { task_id, file_name, progress, status } = task;
  const name = shownName(file_name);
  return html`
    <li class="item" data-job=${task_id}>
      <div class="grow">
        <div class="name" dir="auto">${name}</div>
        <div class="small pale">${cancelling ? "Is being cancelled …" : stateOf(task, ahead)}</div>
        ${status === "processing" && html`<progress aria-label="Done of ${name}" max="100" value=${progress}></progress>`}
      </div>
      <div class="row actions">
        <button class="plain" disabled=${cancelling} onClick=${() => onCancel(task)} aria-label="Cancel: ${name}">Cancel</button>
      </div>
    </li>`;
}
