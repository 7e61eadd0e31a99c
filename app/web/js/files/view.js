// Upload, the queue of this page, and all past jobs.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact.js";
import { addressOfApi } from "../api/http.js";
import { cancelJob } from "../api/jobs.js";
import { Fault } from "../parts/fault.js";
import { shownName } from "../parts/format.js";
import { say } from "../parts/messages.js";
import { Drop } from "./drop.js";
import { JobRow } from "./job_row.js";
import { useActive } from "./lists.js";
import { currentParameters, Options } from "../parts/options.js";
import { Past } from "./past.js";
import { UploadRow } from "./upload_row.js";
import { addFiles, useUploads } from "./uploads.js";

const NO_JOBS = "This service keeps no transcripts (its operator has turned jobs off), so this page cannot take files. Programs can still use its API.";

export function FilesView() {
  const uploads = useUploads(), active = useActive();
  const ended = useEnded(active);
  const [cancelling, setCancelling] = useState(new Set()); // a job that runs takes a moment to notice
  const goesOn = (id) => setCancelling((before) => new Set([...before].filter((one) => one !== id)));
  const cancel = ({ task_id }) => {
    setCancelling((before) => new Set([...before, task_id]));
    cancelJob(task_id).catch((error) => {
      goesOn(task_id);
      say(error.message, "bad");
    }).then(active.again);
  };
  const retried = ({ task_id }) => { goesOn(task_id); active.again(); };
  if (active.error?.status === 404) return html`<p class="notice warn">${NO_JOBS} <a href=${addressOfApi("docs").href}>Documentation</a></p>`;
  const waiting = active.tasks.filter(({ status }) => status === "queued");
  return html`
    <div class="files">
      <section aria-label="Add recordings">
        <${Drop} onFiles=${(files) => addFiles(files, currentParameters())} />
        <${Options} />
      </section>
      ${active.error && html`<${Fault} error=${active.error} what="Your recordings are" onAgain=${active.again} />`}
      ${(uploads.length > 0 || active.tasks.length > 0) && html`
        <section aria-labelledby="active-title">
          <h2 id="active-title">In progress</h2>
          <ul class="items" aria-labelledby="active-title">
            ${uploads.map((upload) => html`<${UploadRow} key=${upload.id} upload=${upload} />`)}
            ${active.tasks.map((task) => html`<${JobRow} key=${task.task_id} task=${task} ahead=${waiting.indexOf(task)} cancelling=${cancelling.has(task.task_id)} onCancel=${cancel} />`)}
          </ul>
          ${active.total > active.tasks.length && html`<p class="pale">and ${active.total - active.tasks.length} more.</p>`}
        </section>`}
      <p class="hidden-text" role="status">${ended.text}</p>
      <${Past} causes=${[ended.number, active.recoveries]} onRetried=${retried} />
    </div>`;
}

/** How many jobs have left the list since this view was opened, and a sentence about the last ones. */
function useEnded({ tasks, handed }) {
  const before = useRef({ tasks: [], handed });
  const [ended, setEnded] = useState({ number: 0, text: "" });
  useEffect(() => {
    const now = new Set(tasks.map(({ task_id }) => task_id));
    const gone = before.current.tasks.filter(({ task_id }) => !now.has(task_id));
    const unseen = handed.slice(before.current.handed.length).filter((id) => !now.has(id)); // they ended before anybody looked
    before.current = { tasks, handed };
    if (gone.length + unseen.length === 0) return;
    const names = gone.map(({ file_name }) => shownName(file_name)).join(", ");
    setEnded(({ number }) => ({ number: number + gone.length + unseen.length, text: names && `${names}: no longer in progress.` }));
  }, [tasks, handed]);
  return ended;
}
