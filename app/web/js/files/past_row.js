// A job that is over: open, download, try again, delete.
import { html, useEffect, useRef } from "../../vendor/htm-preact.js";
import { ago, clock, shownName } from "../parts/format.js";
import { nameOf } from "../parts/languages.js";
import { addressOf } from "../route.js";
import { isBack, undoRemoval } from "./removal.js";

function facts({ duration, language, model, finished_at, warnings }) {
  const known = [duration != null && clock(duration), language && nameOf(language), model, finished_at && ago(finished_at)];
  return [...known, warnings?.length && warnings.join(" ")].filter(Boolean).join(" · ");
}

export function PastRow({ task, chosen, onChoose, onDownload, onRetry, onRemove }) {
  const { task_id, status, error } = task;
  const name = shownName(task.file_name), done = status === "done";
  const remove = useRef();
  useEffect(() => { if (isBack(task)) remove.current.focus(); }, []); // the button that was pressed is gone
  return html`
    <li class="item" data-job=${task_id}>
      <input type="checkbox" aria-label="Select ${name}" checked=${chosen} onChange=${() => onChoose(task_id)} />
      <div class="grow">
        <div class="name" dir="auto">${done ? html`<a href=${addressOf("job", task_id)}>${name}</a>` : name}</div>
        ${status === "failed" && html`<div class="small fault">${error?.message ?? "It failed."}</div>`}
        <div class="small pale">${status === "cancelled" ? "Cancelled · " : ""}${facts(task)}</div>
      </div>
      <div class="row actions">
        ${done && html`<button onClick=${() => onDownload(task)} aria-label="Download: ${name}">Download</button>`}
        ${status === "failed" && html`<button onClick=${() => onRetry(task)} aria-label="Try again: ${name}">Try again</button>`}
        <button class="plain bad" ref=${remove} onClick=${() => onRemove(task)} aria-label="Delete: ${name}">Delete</button>
      </div>
    </li>`;
}

export function RemovedRow({ task }) {
  const undo = useRef();
  useEffect(() => { undo.current.focus(); }, []); // the button that was pressed is gone
  return html`
    <li class="item" data-job=${task.task_id}>
      <div class="grow pale"><span dir="auto" class="name">${shownName(task.file_name)}</span> is deleted.</div>
      <div class="row actions"><button ref=${undo} onClick=${() => undoRemoval(task)}>Undo</button></div>
    </li>`;
}
