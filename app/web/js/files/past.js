// Recordings that are done, failed or cancelled: found, downloaded, deleted.
import { html, useState } from "../../vendor/htm-preact.js";
import { retryJob } from "../api/jobs.js";
import { say } from "../parts/messages.js";
import { FORMATS } from "../parts/formats.js";
import { download, downloadAll } from "./downloads.js";
import { useOver } from "./lists.js";
import { PastRow, RemovedRow } from "./past_row.js";
import { removeSoon, useRemovals } from "./removal.js";

const FORMAT = "transcribe.format";
const SETTLED_MS = 250; // after the last letter of a search

function useSettled(settle) {
  const [timer, setTimer] = useState(null);
  return (value) => {
    clearTimeout(timer);
    setTimer(setTimeout(() => settle(value), SETTLED_MS));
  };
}

export function Past({ causes, onRetried }) {
  const [filter, setFilter] = useState({ search: "", status: "" });
  const [format, setFormat] = useState(FORMATS.find(([name]) => name === localStorage.getItem(FORMAT))?.[0] ?? "txt");
  const [chosen, setChosen] = useState(new Set());
  const over = useOver(filter, causes), removals = useRemovals();
  const settled = useSettled((search) => setFilter((before) => ({ ...before, search })));
  const choose = (id) => setChosen((before) => new Set(before.has(id) ? [...before].filter((one) => one !== id) : [...before, id]));
  const retry = (task) => retryJob(task.task_id).then(() => onRetried(task), (error) => say(error.message, "bad")).then(over.again);
  const remove = (task) => removeSoon(task, over.again);
  if (over.tasks === null) return null;
  const isFiltered = filter.search || filter.status;
  return html`
    <section aria-labelledby="past-title">
      <h2 id="past-title">Recordings</h2>
      <div class="row tools">
        <input type="search" class="grow" aria-label="Search recordings" placeholder="Search by name, or what was said" onInput=${(event) => settled(event.target.value.trim())} />
        <select aria-label="Show" value=${filter.status} onChange=${(event) => setFilter({ ...filter, status: event.target.value })}>
          <option value="">All</option><option value="done">Done</option><option value="failed">Failed</option><option value="cancelled">Cancelled</option>
        </select>
        <label class="row small">Download as
          <select value=${format} onChange=${(event) => { setFormat(event.target.value); localStorage.setItem(FORMAT, event.target.value); }}>
            ${FORMATS.map(([name, title]) => html`<option key=${name} value=${name}>${title}</option>`)}
          </select>
        </label>
      </div>
      <${Chosen} tasks=${over.tasks.filter(({ task_id }) => !removals.has(task_id))} chosen=${chosen} setChosen=${setChosen} format=${format} onRemove=${remove} />
      ${over.tasks.length === 0 && html`<p class="pale">${isFiltered ? "Nothing is found." : "Transcripts of your recordings will be here."}</p>`}
      <ul class="items" aria-label="Recordings">
        ${over.tasks.map((task) => (removals.has(task.task_id) ? html`<${RemovedRow} key=${task.task_id} task=${task} />` : html`
          <${PastRow} key=${task.task_id} task=${task} chosen=${chosen.has(task.task_id)} onChoose=${choose}
            onDownload=${(one) => download(one, format)} onRetry=${retry} onRemove=${remove} />`))}
      </ul>
      ${over.cursor && html`<button onClick=${over.showMore}>Show more (${over.total - over.tasks.length})</button>`}
    </section>`;
}

/** What can be done with all that are selected. */
function Chosen({ tasks, chosen, setChosen, format, onRemove }) {
  const [ready, setReady] = useState(null);
  const selected = tasks.filter(({ task_id }) => chosen.has(task_id));
  const done = selected.filter(({ status }) => status === "done");
  const selectAll = () => setChosen(new Set(selected.length < tasks.length ? tasks.map(({ task_id }) => task_id) : []));
  const fetchAll = async () => {
    await downloadAll(done, format, setReady);
    setReady(null);
  };
  const removeAll = () => { selected.forEach(onRemove); setChosen(new Set()); };
  if (tasks.length < 2) return null;
  return html`
    <div class="row chosen">
      <label class="tick small"><input type="checkbox" checked=${selected.length === tasks.length} indeterminate=${selected.length > 0 && selected.length < tasks.length} onChange=${selectAll} /> Select all</label>
      ${selected.length > 0 && html`
        <button disabled=${!done.length || ready !== null} onClick=${fetchAll}>
          ${ready === null ? `Download ${done.length} as a zip` : `Getting ${ready + 1} of ${done.length} …`}
        </button>
        <button class="plain bad" onClick=${removeAll}>Delete ${selected.length}</button>`}
    </div>`;
}
